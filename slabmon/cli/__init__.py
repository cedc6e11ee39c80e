# SPDX-License-Identifier: Apache-2.0
"""One module per subcommand, each with add_parser() and run()."""

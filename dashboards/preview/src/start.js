// SPDX-License-Identifier: Apache-2.0
// Before @grafana/ui is loaded: where its icons are.
window.__grafana_public_path__ = `${location.origin}/`;

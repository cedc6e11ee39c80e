"""Where the web process takes its data from: readings, history, past moments."""

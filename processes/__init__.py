"""External tools: argv in, facts or named errors out. One module per tool."""

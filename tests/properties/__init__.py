"""What holds for every input of a reader, whatever the bytes are.

Each module is about one format and says its oracle. No input may crash a reader, keep it busy, or
be taken for something valid that it is not. In a full run (`--full`) each format gets at least
100,000 inputs.
"""

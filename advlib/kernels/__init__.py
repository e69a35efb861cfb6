"""The arithmetic that attacks spend their own time in; the torch code here is the specification."""

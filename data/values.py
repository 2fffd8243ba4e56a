"""What a value of a table means: which texts are missing values, which are true and false."""

# In a column of numbers these texts are missing values.
MISSING = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "?", "-"]

# The two categories of a column of booleans, whatever its spelling.
BOOLEANS = ["false", "true"]

# How files spell them.
BOOLEAN_SPELLINGS = {
    "false": "false",
    "False": "false",
    "FALSE": "false",
    "0": "false",
    "true": "true",
    "True": "true",
    "TRUE": "true",
    "1": "true",
}

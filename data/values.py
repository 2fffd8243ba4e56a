"""What a value of a table means: which texts are missing values, and which are true and false."""

# In a column of numbers these texts are missing values.
MISSING = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "?", "-"]

# The categories of a column of booleans, in any spelling; the order gives each its index.
BOOLEANS = ["false", "true"]

# What a lower-case value of a known column of booleans may be, and the category that it means.
BOOLEAN_SPELLINGS = {"false": "false", "true": "true", "0": "false", "1": "true"}

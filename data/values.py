"""What a value of a table means: which texts are missing values, which are true and false."""

# In a column of numbers these texts are missing values.
MISSING = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "?", "-"]

# A column of booleans is text of two categories, whatever its spelling.
BOOLEANS = ["false", "true"]

"""Why a score is what it is: heat maps and influence."""

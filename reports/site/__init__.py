"""The report site: results as pages that open from disk."""

"""Numbers made of records: statistics, intervals by resampling, and what insight measures."""

"""Systems compared on equal terms: trained and judged alike over seeds and folds; latency; search."""

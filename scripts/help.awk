# Print each target of a Makefile below the `##` comment that stands above it.
/^## / { text = text "\n    " substr($0, 4) }
/^[a-z]+:/ && text { sub(/:.*/, ""); print "make " $0 text "\n"; text = "" }

module dunnage

go 1.24

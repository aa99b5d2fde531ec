module example/tour

go 1.24

require dunnage v0.0.0

replace dunnage => ../../bindings-go

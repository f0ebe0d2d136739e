module github.com/fleetlog/fleetlog

go 1.26.0

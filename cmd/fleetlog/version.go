package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

type versionCommand struct{}

// Run prints the module's version, the commit it was built from where the
// toolchain knows it, and the Go version.
func (versionCommand) Run() error {
	version, revision := "(unknown)", ""
	if build, ok := debug.ReadBuildInfo(); ok {
		version = build.Main.Version
		for _, s := range build.Settings {
			if s.Key == "vcs.revision" {
				revision = " commit " + s.Value
			}
		}
	}
	_, err := fmt.Printf("fleetlog %s%s %s %s/%s\n", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

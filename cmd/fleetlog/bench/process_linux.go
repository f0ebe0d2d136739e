package main

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel end the child when this process is killed.
func dieWithParent(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

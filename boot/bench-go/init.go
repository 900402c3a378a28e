package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// initProcess prepares the guest when this program is process 1 of a bare
// kernel (the kernel opened /dev/console as fd 0, 1 and 2), takes its arguments
// from a file, and returns what to do at the end: power off. Elsewhere it does
// nothing.
func initProcess() func() {
	if os.Getpid() != 1 {
		return func() {}
	}
	for _, m := range []string{"proc", "sysfs"} {
		dir := map[string]string{"proc": "/proc", "sysfs": "/sys"}[m]
		os.MkdirAll(dir, 0o755)
		if err := syscall.Mount(m, dir, m, 0, ""); err != nil {
			fmt.Println("# mount", m, err)
		}
	}
	arguments, _ := os.ReadFile("/arguments")
	os.Args = append(os.Args[:1], strings.Fields(string(arguments))...)
	return func() {
		if e := recover(); e != nil {
			fmt.Println("# panic:", e)
		}
		syscall.Sync()
		syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	}
}

// The nats.go client against weir: scenarios and load.
//
//	weir_go scenarios NAMES URL...
//	weir_go publish|consume OUT URL...
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "weir_go:", err)
	os.Exit(1)
}

func main() {
	if len(os.Args) < 3 {
		fatal(fmt.Errorf("usage: weir_go scenarios NAMES URL... | publish|consume OUT URL..."))
	}
	if os.Args[1] == "scenarios" {
		// scenarios NAMES URL...: NAMES joined by commas, or empty for all.
		scenarios(os.Args[3:], func(name string) bool {
			return os.Args[2] == "" || slices.Contains(strings.Split(os.Args[2], ","), name)
		})
		return
	}
	load(os.Args[1], os.Args[2], os.Args[3:])
}

// Prints containerd's default seccomp profile, RuntimeDefault of most clusters, for a container with the
// capabilities that the arguments name (CAP_BPF), as the `linux.seccomp` of an OCI runtime configuration.
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func main() {
	capabilities := specs.LinuxCapabilities{Bounding: os.Args[1:]}
	process := specs.Process{Capabilities: &capabilities}
	profile := seccomp.DefaultProfile(&specs.Spec{Process: &process})
	if err := json.NewEncoder(os.Stdout).Encode(profile); err != nil {
		log.Fatal(err)
	}
}

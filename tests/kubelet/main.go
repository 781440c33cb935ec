// Answers `kubectl exec` on a node of the test cluster, as its kubelet would: API servers come here with
// what users ask of pods. The streams are served by the code that kubelets serve them with.
//
// Usage: kubelet ADDRESS LOGS. LOGS has a file NAMESPACE_POD_CONTAINER.pid for each container, with the id
// of its first process.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: kubelet ADDRESS LOGS")
	}
	certificate, err := selfSigned()
	if err != nil {
		log.Fatal(err)
	}
	containers := containers{logs: os.Args[2]}
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", containers.serve)
	server := http.Server{
		Addr:    os.Args[1],
		Handler: mux,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{certificate},
			// SPDY takes over the connection, which HTTP/2 does not allow.
			NextProtos: []string{"http/1.1"},
		},
	}
	log.Fatal(server.ListenAndServeTLS("", ""))
}

// Runs commands in containers, whose processes the log directory names.
type containers struct {
	logs string
}

func (c containers) serve(w http.ResponseWriter, request *http.Request) {
	options, err := remotecommand.NewOptions(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	name := strings.Join([]string{
		request.PathValue("namespace"), request.PathValue("pod"), request.PathValue("container"),
	}, "_")
	remotecommand.ServeExec(w, request, c, name, "", "", request.URL.Query()["command"], options,
		idle, creation, remotecommand.SupportedStreamingProtocols)
}

// ExecInContainer runs a command in the namespaces and with the environment of a container.
func (c containers) ExecInContainer(
	ctx context.Context, name string, _ string, _ string, command []string,
	in io.Reader, out, complaints io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	if len(command) == 0 {
		return fmt.Errorf("no command")
	}
	id, err := os.ReadFile(filepath.Join(c.logs, filepath.Base(name)+".pid"))
	if err != nil {
		return fmt.Errorf("no container `%s` runs here", name)
	}
	environment, err := os.ReadFile(filepath.Join("/proc", string(id), "environ"))
	if err != nil {
		return err
	}
	arguments := append([]string{"--mount", "--net", "--root", "--wd=/", "--target", string(id)}, command...)
	process := exec.CommandContext(ctx, "nsenter", arguments...)
	process.Env = strings.Split(strings.TrimRight(string(environment), "\x00"), "\x00")
	process.Stdin, process.Stdout, process.Stderr = in, out, complaints
	return exitStatus(process.Run())
}

// The end of a process in the terms of the streams' protocol.
func exitStatus(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &utilexec.ExitErrorWrapper{ExitError: exit}
	}
	return err
}

// A certificate for a while: API servers do not verify it unless they are given an authority.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	signed, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: key}, nil
}

const (
	idle     = 4 * time.Hour
	creation = 30 * time.Second
)

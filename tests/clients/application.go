package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// visit is what a client saw of an application.
type visit struct {
	// Answer is the body of a page, the state of a gRPC service, or the message that came back.
	Answer string `json:"answer"`
	// Protocol is that of the answer: HTTP/1.1 or HTTP/2.0.
	Protocol string `json:"protocol"`
	// Certificate is the first name of the certificate that the client was shown.
	Certificate string `json:"certificate"`
}

// serveApplication serves pages, gRPC and WebSockets at one port, as argocd-server and Grafana do; by TLS with the
// certificate and key in these files, or in cleartext without them.
func serveApplication(address string, files []string) error {
	calls := grpc.NewServer()
	healthpb.RegisterHealthServer(calls, health.NewServer())
	pages := http.NewServeMux()
	pages.Handle("/api/live/ws", websocket.Handler(func(connection *websocket.Conn) {
		_, _ = io.Copy(connection, connection)
	}))
	pages.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		fmt.Fprintf(response, "%s of %s by %s", request.URL.Path, request.Host, request.Header.Get("X-Forwarded-Proto"))
	})
	server := http.Server{Addr: address, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Handler = http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		if strings.HasPrefix(request.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(response, request)
			return
		}
		pages.ServeHTTP(response, request)
	})
	if len(files) == 2 {
		return server.ListenAndServeTLS(files[0], files[1])
	}
	return server.ListenAndServe()
}

// visitBy reaches a host at an address by TLS, trusting the certificates in a file: a page by its path, a gRPC health
// check, or a message to a WebSocket that comes back.
func visitBy(kind, address, host, authority, path string) (visit, error) {
	roots := x509.NewCertPool()
	file, err := os.ReadFile(authority)
	if err != nil {
		return visit{}, err
	}
	roots.AppendCertsFromPEM(file)
	config := &tls.Config{RootCAs: roots, ServerName: host}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch kind {
	case "page":
		return visitPage(ctx, config, address, host, path)
	case "grpc":
		return visitService(ctx, config, address, host)
	case "websocket":
		return visitSocket(ctx, config, address, host, path)
	}
	return visit{}, fmt.Errorf("unknown kind of visit %q", kind)
}

func visitPage(ctx context.Context, config *tls.Config, address, host, path string) (visit, error) {
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		return visit{}, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return visit{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", response.StatusCode, body)
	}
	return visit{string(body), response.Proto, shown(*response.TLS)}, err
}

func visitService(ctx context.Context, config *tls.Config, address, host string) (visit, error) {
	var state tls.ConnectionState
	config.VerifyConnection = func(of tls.ConnectionState) error {
		state = of
		return nil
	}
	connection, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithAuthority(host))
	if err != nil {
		return visit{}, err
	}
	defer connection.Close()
	answer, err := healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{})
	return visit{answer.GetStatus().String(), "HTTP/2.0", shown(state)}, err
}

func visitSocket(ctx context.Context, config *tls.Config, address, host, path string) (visit, error) {
	target, err := websocket.NewConfig("wss://"+host+path, "https://"+host)
	if err != nil {
		return visit{}, err
	}
	stream, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return visit{}, err
	}
	defer stream.Close()
	socket, err := websocket.NewClient(target, stream)
	if err != nil {
		return visit{}, err
	}
	var answer string
	if err := websocket.Message.Send(socket, "to and fro"); err != nil {
		return visit{}, err
	}
	err = websocket.Message.Receive(socket, &answer)
	return visit{answer, "HTTP/1.1", shown(stream.(*tls.Conn).ConnectionState())}, err
}

func shown(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 || len(state.PeerCertificates[0].DNSNames) == 0 {
		return ""
	}
	return state.PeerCertificates[0].DNSNames[0]
}

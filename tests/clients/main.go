// Command clients plays what stands on both sides of an ingress: endpoints that stream without end, and
// clients that cancel most of what they open, as gRPC watches and browsers' EventSources do.
//
//	clients serve GRPC_ADDRESS EVENTS_ADDRESS
//	clients watch ADDRESS HOST COUNT
//	clients events ADDRESS HOST COUNT
//	clients application ADDRESS [CERTIFICATE KEY]
//	clients page|grpc|websocket ADDRESS HOST AUTHORITY PATH
//
// Watches and events keep one stream open while they open and cancel COUNT others, and print what became of all. The
// other clients visit an application by TLS, and print what they saw.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// report is what a client prints.
type report struct {
	// Cancelled counts the streams that gave a first message and were cancelled then.
	Cancelled int `json:"cancelled"`
	// Messages counts what the long stream received after that.
	Messages int `json:"messages"`
	// Connections counts the connections that the client opened.
	Connections int64 `json:"connections"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 3 && arguments[0] == "serve" {
		return serve(arguments[1], arguments[2])
	}
	if len(arguments) >= 2 && arguments[0] == "application" {
		return serveApplication(arguments[1], arguments[2:])
	}
	if len(arguments) == 5 {
		seen, err := visitBy(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4])
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(seen)
	}
	if len(arguments) != 4 {
		return fmt.Errorf("usage: see the comment of the package")
	}
	count, err := strconv.Atoi(arguments[3])
	if err != nil {
		return err
	}
	play := map[string]func(string, string, int) (report, error){"watch": watch, "events": events}[arguments[0]]
	if play == nil {
		return fmt.Errorf("unknown command %q", arguments[0])
	}
	result, err := play(arguments[1], arguments[2], count)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// serve answers health watches and event streams; both have news every few milliseconds.
func serve(grpcAddress, eventsAddress string) error {
	listener, err := net.Listen("tcp", grpcAddress)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	state := health.NewServer()
	healthpb.RegisterHealthServer(server, state)
	go func() {
		statuses := []healthpb.HealthCheckResponse_ServingStatus{
			healthpb.HealthCheckResponse_SERVING,
			healthpb.HealthCheckResponse_NOT_SERVING,
		}
		for number := 0; ; number++ {
			state.SetServingStatus("long", statuses[number%2])
			time.Sleep(pause)
		}
	}()
	go func() {
		_ = http.ListenAndServe(eventsAddress, http.HandlerFunc(stream))
		os.Exit(1)
	}()
	return server.Serve(listener)
}

func stream(response http.ResponseWriter, request *http.Request) {
	response.Header().Set("Content-Type", "text/event-stream")
	for request.Context().Err() == nil {
		fmt.Fprint(response, "data: news\n\n")
		response.(http.Flusher).Flush()
		time.Sleep(pause)
	}
}

// watch cancels count health watches beside one that goes on.
func watch(address, host string, count int) (report, error) {
	var result report
	var connections atomic.Int64
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		connections.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	connection, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority(host), grpc.WithContextDialer(dial))
	if err != nil {
		return result, err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := healthpb.NewHealthClient(connection)
	long, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: "long"})
	if err != nil {
		return result, err
	}
	if _, err := long.Recv(); err != nil {
		return result, fmt.Errorf("the long watch: %w", err)
	}
	for ; result.Cancelled < count; result.Cancelled++ {
		short, cancel := context.WithCancel(ctx)
		stream, err := client.Watch(short, &healthpb.HealthCheckRequest{Service: ""})
		if err == nil {
			_, err = stream.Recv()
		}
		cancel()
		if err != nil {
			return result, fmt.Errorf("watch %d: %w", result.Cancelled, err)
		}
	}
	for ; result.Messages < messages; result.Messages++ {
		if _, err := long.Recv(); err != nil {
			return result, fmt.Errorf("the long watch after %d others: %w", count, err)
		}
	}
	result.Connections = connections.Load()
	return result, nil
}

// events closes count event streams over HTTP/2 beside one that goes on.
func events(address, host string, count int) (report, error) {
	var result report
	var connections atomic.Int64
	dial := func(ctx context.Context, network, _ string, _ *tls.Config) (net.Conn, error) {
		connections.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	client := http.Client{Transport: &http2.Transport{AllowHTTP: true, DialTLSContext: dial}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	open := func(ctx context.Context) (*http.Response, *bufio.Reader, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/", nil)
		if err != nil {
			return nil, nil, err
		}
		request.Header.Set("Accept", "text/event-stream")
		response, err := client.Do(request)
		if err != nil {
			return nil, nil, err
		}
		reader := bufio.NewReader(response.Body)
		_, err = reader.ReadString('\n')
		if err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d", response.StatusCode)
		}
		return response, reader, err
	}
	_, long, err := open(ctx)
	if err != nil {
		return result, fmt.Errorf("the long stream: %w", err)
	}
	for ; result.Cancelled < count; result.Cancelled++ {
		response, _, err := open(ctx)
		if err != nil {
			return result, fmt.Errorf("stream %d: %w", result.Cancelled, err)
		}
		response.Body.Close()
	}
	for ; result.Messages < messages; result.Messages++ {
		if _, err := long.ReadString('\n'); err != nil {
			return result, fmt.Errorf("the long stream after %d others: %w", count, err)
		}
	}
	result.Connections = connections.Load()
	return result, nil
}

const (
	pause    = 10 * time.Millisecond
	patience = 2 * time.Minute
	messages = 20
)

// What the kill test runs: publishers that never send a message twice, and consumers with double acks.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	window   = 50
	pause    = 300 * time.Millisecond
	ackLimit = 10 * time.Second
)

// Lines of the report; see tests/clients/README.md.
type report struct {
	mu  sync.Mutex
	out *bufio.Writer
}

func (r *report) line(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format+"\n", args...)
	r.out.Flush()
}

func nowMs() int64 { return time.Now().UnixMilli() }

func loadConnect(name, url string, all []string) *nats.Conn {
	order := append([]string{url}, all...)
	nc, err := nats.Connect(strings.Join(order, ","), nats.Name(name), nats.DontRandomize(),
		nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		fatal(err)
	}
	return nc
}

// One connection: bursts of asynchronous publishes, each burst settled before the next.
func publisher(ctx context.Context, r *report, id, url string, all []string) {
	nc := loadConnect(id, url, all)
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(ackLimit))
	if err != nil {
		fatal(err)
	}
	for i := 0; ctx.Err() == nil; i += window {
		futures := make([]jetstream.PubAckFuture, window)
		for k := range futures {
			data := fmt.Sprintf("%s:%d", id, i+k)
			r.line("P %s %d", id, i+k)
			f, err := js.PublishAsync("kills."+id, []byte(data), jetstream.WithRetryAttempts(0))
			if err != nil {
				r.line("E %s %d %v", id, i+k, err)
				continue
			}
			futures[k] = f
		}
		for k, f := range futures {
			if f == nil {
				continue
			}
			select {
			case ack := <-f.Ok():
				r.line("A %s %d %d %d %s", id, i+k, ack.Sequence, nowMs(), nc.ConnectedUrl())
			case err := <-f.Err():
				r.line("E %s %d %v", id, i+k, err)
			}
		}
		time.Sleep(pause)
	}
}

// Confirms an ack, repeating the same one: it is idempotent.
func confirm(ctx context.Context, r *report, id string, m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		fatal(err)
	}
	r.line("S %s %d %d %d", id, meta.Sequence.Stream, meta.NumDelivered, nowMs())
	for try := 0; try < 10 && ctx.Err() == nil; try++ {
		c, cancel := context.WithTimeout(ctx, time.Second)
		err = m.DoubleAck(c)
		cancel()
		if err == nil {
			r.line("C %s %d %d", id, meta.Sequence.Stream, nowMs())
			return
		}
	}
	r.line("U %s %d %v", id, meta.Sequence.Stream, err)
}

func consumer(ctx context.Context, r *report, id, url string, all []string) {
	nc := loadConnect(id, url, all)
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		fatal(err)
	}
	cons, err := js.Consumer(ctx, "KILLS", id)
	if err != nil {
		fatal(err)
	}
	for ctx.Err() == nil {
		batch, err := cons.Fetch(200, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				time.Sleep(50 * time.Millisecond)
			}
			continue
		}
		var wg sync.WaitGroup
		for m := range batch.Messages() {
			wg.Add(1)
			go func() {
				defer wg.Done()
				confirm(ctx, r, id, m)
			}()
		}
		wg.Wait()
	}
}

// load publish|consume OUT URL...: until standard input ends.
func load(what, path string, urls []string) {
	f, err := os.Create(path)
	if err != nil {
		fatal(err)
	}
	r := &report{out: bufio.NewWriter(f)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	if what == "publish" {
		for i, url := range urls {
			wg.Add(1)
			go func() {
				defer wg.Done()
				publisher(ctx, r, fmt.Sprintf("go%d", i), url, urls)
			}()
		}
	} else {
		wg.Add(1)
		go func() {
			defer wg.Done()
			consumer(ctx, r, "cgo", urls[1], urls)
		}()
	}
	bufio.NewReader(os.Stdin).ReadString('\n')
	cancel()
	wg.Wait()
}

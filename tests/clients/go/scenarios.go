// The scenarios of tests/clients/scenarios.txt with nats.go.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// World is what a scenario has: a connection to each node, and a stream name of its own. With one node,
// three connections to it.
type World struct {
	isAlone  bool
	ctx      context.Context
	urls     []string
	nc       []*nats.Conn
	js       []jetstream.JetStream
	name     string
	replicas int
}

type failure string

func check(is bool, format string, args ...any) {
	if !is {
		panic(failure(fmt.Sprintf(format, args...)))
	}
}

func must(err error) {
	if err != nil {
		panic(failure(err.Error()))
	}
}

func got[T any](v T, err error) T {
	must(err)
	return v
}

// The error's code in the API, 0 if it has none.
func apiCode(err error) jetstream.ErrorCode {
	var e *jetstream.APIError
	if errors.As(err, &e) {
		return e.ErrorCode
	}
	var j jetstream.JetStreamError
	if errors.As(err, &j) && j.APIError() != nil {
		return j.APIError().ErrorCode
	}
	return 0
}

func (w *World) stream(config jetstream.StreamConfig) jetstream.Stream {
	config.Name = w.name
	config.Replicas = w.replicas
	if config.Subjects == nil {
		config.Subjects = []string{w.name + ".>"}
	}
	return got(w.js[0].CreateStream(w.ctx, config))
}

func (w *World) publish(count int) {
	for i := 1; i <= count; i++ {
		ack := got(w.js[1].Publish(w.ctx, fmt.Sprintf("%s.%d", w.name, i%3), fmt.Appendf(nil, "m%d", i)))
		check(ack.Sequence == uint64(i), "sequence %d of message %d", ack.Sequence, i)
	}
}

func (w *World) consumer(config jetstream.ConsumerConfig) jetstream.Consumer {
	config.AckPolicy = jetstream.AckExplicitPolicy
	return got(w.js[2].CreateConsumer(w.ctx, w.name, config))
}

// The messages of one fetch.
func fetch(c jetstream.Consumer, count int, wait time.Duration) []jetstream.Msg {
	batch := got(c.Fetch(count, jetstream.FetchMaxWait(wait)))
	var all []jetstream.Msg
	for m := range batch.Messages() {
		all = append(all, m)
	}
	must(batch.Error())
	return all
}

func fetchOne(c jetstream.Consumer) jetstream.Msg {
	all := fetch(c, 1, 3*time.Second)
	check(len(all) == 1, "expected a message")
	return all[0]
}

func expectSeq(m jetstream.Msg, seq uint64, delivered uint64) {
	meta := got(m.Metadata())
	check(meta.Sequence.Stream == seq && meta.NumDelivered == delivered, "got sequence %d, delivery %d; expected %d, %d",
		meta.Sequence.Stream, meta.NumDelivered, seq, delivered)
}

// ---- Core ----

func settle(w *World) {
	for _, nc := range w.nc {
		must(nc.Flush())
	}
	// Interest reaches the other nodes before a later message of the same connection does.
	for i, from := range w.nc {
		for _, to := range w.nc {
			inbox := nats.NewInbox()
			sub := got(to.SubscribeSync(inbox))
			must(to.Flush())
			for try := 0; ; try++ {
				must(from.Publish(inbox, nil))
				if _, err := sub.NextMsg(100 * time.Millisecond); err == nil {
					break
				}
				check(try < 50, "no interest at node %d", i)
			}
			must(sub.Unsubscribe())
		}
	}
}

func pubsub(w *World) {
	sub := got(w.nc[1].SubscribeSync("go.pubsub.>"))
	settle(w)
	for i := range 100 {
		must(w.nc[0].Publish("go.pubsub.x", fmt.Appendf(nil, "%d", i)))
	}
	for i := range 100 {
		m := got(sub.NextMsg(3 * time.Second))
		check(string(m.Data) == fmt.Sprint(i), "got %s", m.Data)
	}
}

func request(w *World) {
	got(w.nc[2].Subscribe("go.service", func(m *nats.Msg) { must(m.Respond(append([]byte("re:"), m.Data...))) }))
	settle(w)
	for i := range 100 {
		m := got(w.nc[i%3].Request("go.service", fmt.Appendf(nil, "%d", i), 3*time.Second))
		check(string(m.Data) == fmt.Sprintf("re:%d", i), "got %s", m.Data)
	}
}

func noResponders(w *World) {
	began := time.Now()
	_, err := w.nc[0].Request("go.nobody", nil, 5*time.Second)
	check(errors.Is(err, nats.ErrNoResponders), "got %v", err)
	check(time.Since(began) < 4*time.Second, "it was not told")
}

func queueGroups(w *World) {
	var subs []*nats.Subscription
	for _, nc := range w.nc {
		subs = append(subs, got(nc.QueueSubscribeSync("go.queue", "group")))
	}
	settle(w)
	for range 300 {
		must(w.nc[0].Publish("go.queue", nil))
	}
	must(w.nc[0].Flush())
	count := 0
	for _, sub := range subs {
		for {
			if _, err := sub.NextMsg(300 * time.Millisecond); err != nil {
				break
			}
			count++
		}
	}
	check(count == 300, "%d of 300 arrived", count)
}

func headers(w *World) {
	sub := got(w.nc[1].SubscribeSync("go.headers"))
	settle(w)
	m := nats.NewMsg("go.headers")
	m.Header.Add("A", "1")
	m.Header.Add("A", "2")
	m.Header.Add("Long-Name", "with spaces, and: colons")
	m.Data = []byte("data")
	must(w.nc[0].PublishMsg(m))
	r := got(sub.NextMsg(3 * time.Second))
	check(len(r.Header.Values("A")) == 2 && r.Header.Get("Long-Name") == "with spaces, and: colons" &&
		string(r.Data) == "data", "got %v", r.Header)
}

func drain(w *World) {
	closed := make(chan bool)
	nc := got(nats.Connect(w.urls[1], nats.ClosedHandler(func(*nats.Conn) { close(closed) })))
	count := 0
	got(nc.Subscribe("go.drain", func(*nats.Msg) {
		count++
		time.Sleep(time.Millisecond)
	}))
	must(nc.Flush())
	settle(w)
	for range 100 {
		must(w.nc[1].Publish("go.drain", nil))
	}
	must(w.nc[1].Flush())
	must(nc.Drain())
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		check(false, "drain does not end")
	}
	check(count == 100, "%d of 100 were handled", count)
}

// The test that started us kills the node and says so.
func reconnect(w *World) {
	back := make(chan bool, 10)
	nc := got(nats.Connect(w.urls[2], nats.ReconnectWait(50*time.Millisecond), nats.MaxReconnects(-1),
		nats.ReconnectHandler(func(*nats.Conn) { back <- true })))
	defer nc.Close()
	sub := got(nc.SubscribeSync("go.reconnect"))
	must(nc.Flush())
	check(len(nc.DiscoveredServers()) > 0, "no other servers in INFO")
	fmt.Println("kill 2")
	got(bufio.NewReader(os.Stdin).ReadString('\n'))
	select {
	case <-back:
	case <-time.After(10 * time.Second):
		check(false, "does not reconnect")
	}
	must(nc.Publish("go.reconnect", []byte("hello")))
	m := got(sub.NextMsg(3 * time.Second))
	check(string(m.Data) == "hello", "got %s", m.Data)
	fmt.Println("start 2")
	got(bufio.NewReader(os.Stdin).ReadString('\n'))
}

// ---- JetStream ----

func account(w *World) {
	before := got(w.js[0].AccountInfo(w.ctx))
	if !w.isAlone {
		w.replicas = 3 // So far a node counts what it has a replica of.
	}
	s := w.stream(jetstream.StreamConfig{})
	w.consumer(jetstream.ConsumerConfig{Durable: "d"})
	// Consumers live in the streams, so other nodes hear of them a little later.
	eventually("account information counts them", func() bool {
		info := got(w.js[0].AccountInfo(w.ctx))
		return info.Streams == before.Streams+1 && info.Consumers == before.Consumers+1
	})
	must(w.js[0].DeleteStream(w.ctx, s.CachedInfo().Config.Name))
}

func refused(w *World) {
	w.stream(jetstream.StreamConfig{})
	for what, try := range map[string]func() error{
		"mirror": func() error {
			_, err := w.js[0].CreateStream(w.ctx, jetstream.StreamConfig{Name: w.name + "m",
				Mirror: &jetstream.StreamSource{Name: w.name}})
			return err
		},
		"source": func() error {
			_, err := w.js[0].CreateStream(w.ctx, jetstream.StreamConfig{Name: w.name + "s",
				Sources: []*jetstream.StreamSource{{Name: w.name}}})
			return err
		},
		"work queue": func() error {
			_, err := w.js[0].CreateStream(w.ctx, jetstream.StreamConfig{Name: w.name + "w", Subjects: []string{w.name + "w"},
				Retention: jetstream.WorkQueuePolicy})
			return err
		},
	} {
		err := try()
		check(err != nil, "%s was not refused", what)
		check(!errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout), "%s: no answer", what)
	}
}

func streams(w *World) {
	s := w.stream(jetstream.StreamConfig{Description: "first", MaxMsgs: 10})
	info := got(s.Info(w.ctx))
	check(info.Config.Description == "first" && info.Config.MaxMsgs == 10 && info.Config.Replicas == w.replicas,
		"configuration %+v", info.Config)
	check(w.isAlone || info.Cluster != nil && info.Cluster.Leader != "" && len(info.Cluster.Replicas) == w.replicas-1, "cluster %+v", info.Cluster)
	w.stream(jetstream.StreamConfig{Description: "first", MaxMsgs: 10}) // The same again is no error.
	_, err := w.js[1].CreateStream(w.ctx, jetstream.StreamConfig{Name: w.name, Subjects: []string{"other." + w.name}, Replicas: w.replicas})
	check(errors.Is(err, jetstream.ErrStreamNameAlreadyInUse), "another configuration: %v", err)
	_, err = w.js[1].CreateStream(w.ctx, jetstream.StreamConfig{Name: w.name + "x", Subjects: []string{w.name + ".a"}})
	check(apiCode(err) == 10065, "overlapping subjects: %v", err)
	config := info.Config
	config.Description = "second"
	config.Subjects = append(config.Subjects, w.name+"-more")
	s = got(w.js[2].UpdateStream(w.ctx, config))
	check(s.CachedInfo().Config.Description == "second" && len(s.CachedInfo().Config.Subjects) == 2, "not updated")
	got(w.js[0].Publish(w.ctx, w.name+"-more", nil))
	_, err = w.js[0].UpdateStream(w.ctx, jetstream.StreamConfig{Name: w.name + "-none", Subjects: []string{"none"}})
	check(errors.Is(err, jetstream.ErrStreamNotFound), "update of none: %v", err)
	names := w.js[1].StreamNames(w.ctx)
	has := false
	for name := range names.Name() {
		has = has || name == w.name
	}
	must(names.Err())
	check(has, "not in the names")
	list := w.js[1].ListStreams(w.ctx, jetstream.WithStreamListSubject(w.name+".>"))
	count := 0
	for i := range list.Info() {
		check(i.Config.Name == w.name, "listed %s", i.Config.Name)
		count++
	}
	must(list.Err())
	check(count == 1, "listed %d", count)
	check(got(w.js[0].StreamNameBySubject(w.ctx, w.name+".x")) == w.name, "name by subject")
	must(w.js[1].DeleteStream(w.ctx, w.name))
	_, err = w.js[2].Stream(w.ctx, w.name)
	check(errors.Is(err, jetstream.ErrStreamNotFound), "after the delete: %v", err)
	check(errors.Is(w.js[1].DeleteStream(w.ctx, w.name), jetstream.ErrStreamNotFound), "deleted twice")
}

func publish(w *World) {
	s := w.stream(jetstream.StreamConfig{})
	w.publish(30)
	var futures []jetstream.PubAckFuture
	for range 500 {
		futures = append(futures, got(w.js[2].PublishAsync(w.name+".a", []byte("async"))))
	}
	for i, f := range futures {
		select {
		case ack := <-f.Ok():
			check(ack.Sequence == uint64(31+i) && ack.Stream == w.name, "ack %d: %+v", i, ack)
		case err := <-f.Err():
			must(err)
		case <-time.After(5 * time.Second):
			check(false, "no ack of %d", i)
		}
	}
	info := got(s.Info(w.ctx, jetstream.WithSubjectFilter(">")))
	check(info.State.Msgs == 530 && info.State.LastSeq == 530 && info.State.NumSubjects == 4 &&
		info.State.Subjects[w.name+".a"] == 500, "state %+v", info.State)
	_, err := w.js[0].Publish(w.ctx, "nothing.has.this", nil, jetstream.WithRetryAttempts(0))
	check(errors.Is(err, jetstream.ErrNoStreamResponse), "no stream: %v", err)
}

func dedup(w *World) {
	w.stream(jetstream.StreamConfig{Duplicates: 30 * time.Second})
	for i, id := range []string{"a", "b", "a", "b", "c"} {
		ack := got(w.js[i%3].Publish(w.ctx, w.name+".x", nil, jetstream.WithMsgID(id)))
		want := map[string]uint64{"a": 1, "b": 2, "c": 3}[id]
		check(ack.Sequence == want && ack.Duplicate == (i == 2 || i == 3), "%d: %+v", i, ack)
	}
}

func expectations(w *World) {
	w.stream(jetstream.StreamConfig{})
	pub := func(subject string, opts ...jetstream.PublishOpt) error {
		_, err := w.js[1].Publish(w.ctx, w.name+"."+subject, nil, opts...)
		return err
	}
	must(pub("a", jetstream.WithExpectLastSequence(0), jetstream.WithMsgID("one")))
	must(pub("b", jetstream.WithExpectLastSequence(1), jetstream.WithExpectStream(w.name)))
	check(apiCode(pub("b", jetstream.WithExpectLastSequence(1))) == 10071, "last sequence")
	must(pub("a", jetstream.WithExpectLastSequencePerSubject(1), jetstream.WithMsgID("two")))
	check(apiCode(pub("a", jetstream.WithExpectLastSequencePerSubject(1))) == 10071, "last sequence of the subject")
	must(pub("c", jetstream.WithExpectLastSequencePerSubject(0)))
	check(apiCode(pub("a", jetstream.WithExpectStream("other"))) == 10060, "stream")
	check(apiCode(pub("a", jetstream.WithExpectLastMsgID("one"))) == 10070, "message id")
	info := got(got(w.js[0].Stream(w.ctx, w.name)).Info(w.ctx))
	check(info.State.Msgs == 4, "%d messages", info.State.Msgs)
}

func getDelete(w *World) {
	s := w.stream(jetstream.StreamConfig{})
	w.publish(12)
	m := got(s.GetMsg(w.ctx, 5))
	check(string(m.Data) == "m5" && m.Subject == w.name+".2" && m.Sequence == 5, "message 5: %+v", m)
	check(time.Since(m.Time) < time.Minute && time.Since(m.Time) > -time.Second, "time %v", m.Time)
	check(got(s.GetLastMsgForSubject(w.ctx, w.name+".1")).Sequence == 10, "last of a subject")
	must(s.DeleteMsg(w.ctx, 5))
	must(s.SecureDeleteMsg(w.ctx, 6))
	_, err := s.GetMsg(w.ctx, 5)
	check(errors.Is(err, jetstream.ErrMsgNotFound), "deleted: %v", err)
	check(s.DeleteMsg(w.ctx, 5) != nil, "deleted twice")
	info := got(s.Info(w.ctx, jetstream.WithDeletedDetails(true)))
	check(info.State.NumDeleted == 2 && len(info.State.Deleted) == 2 && info.State.Deleted[0] == 5, "state %+v", info.State)
	must(s.Purge(w.ctx, jetstream.WithPurgeSubject(w.name+".0"))) // 3, 9, 12; 6 is gone.
	check(got(s.Info(w.ctx)).State.Msgs == 7, "purge of a subject")
	must(s.Purge(w.ctx, jetstream.WithPurgeSequence(4))) // 1, 2
	check(got(s.Info(w.ctx)).State.FirstSeq == 4, "purge below a sequence")
	must(s.Purge(w.ctx, jetstream.WithPurgeKeep(2)))
	info = got(s.Info(w.ctx))
	check(info.State.Msgs == 2 && info.State.FirstSeq == 10, "purge but 2: %+v", info.State)
	must(s.Purge(w.ctx))
	info = got(s.Info(w.ctx))
	check(info.State.Msgs == 0 && info.State.LastSeq == 12 && info.State.FirstSeq == 13, "purge: %+v", info.State)
}

func fetches(w *World) {
	w.stream(jetstream.StreamConfig{})
	w.publish(20)
	c := w.consumer(jetstream.ConsumerConfig{Durable: "d"})
	all := fetch(c, 7, 3*time.Second)
	check(len(all) == 7, "%d of 7", len(all))
	for i, m := range all {
		expectSeq(m, uint64(i+1), 1)
		must(m.Ack())
	}
	batch := got(c.FetchNoWait(5))
	count := 0
	for range batch.Messages() {
		count++
	}
	check(count == 5, "no wait: %d of 5", count)
	batch = got(c.FetchBytes(300, jetstream.FetchMaxWait(time.Second))) // Subjects and replies count.
	count = 0
	for range batch.Messages() {
		count++
	}
	check(count >= 1 && count <= 4, "300 bytes are %d messages", count)
	rest := fetch(c, 100, 500*time.Millisecond)
	check(len(rest) == 20-7-5-count, "rest is %d after %d", len(rest), count)
	began := time.Now()
	check(len(fetch(c, 1, 700*time.Millisecond)) == 0, "an empty pull has a message")
	check(time.Since(began) > 500*time.Millisecond, "the pull did not wait")
	batch = got(c.FetchNoWait(5))
	for range batch.Messages() {
		check(false, "no wait on nothing has a message")
	}
	batch = got(c.Fetch(1, jetstream.FetchMaxWait(2*time.Second), jetstream.FetchHeartbeat(300*time.Millisecond)))
	for range batch.Messages() {
		check(false, "an empty pull has a message")
	}
	must(batch.Error()) // Heartbeats came, or this would be ErrNoHeartbeat.
}

func consume(w *World) {
	w.stream(jetstream.StreamConfig{})
	c := w.consumer(jetstream.ConsumerConfig{Durable: "d"})
	for i := range 2000 {
		got(w.js[0].PublishAsync(w.name+".x", fmt.Appendf(nil, "%d", i)))
	}
	seqs := make(chan uint64, 4000)
	cc := got(c.Consume(func(m jetstream.Msg) {
		seqs <- got(m.Metadata()).Sequence.Stream
		must(m.Ack())
	}, jetstream.PullMaxMessages(100)))
	for i := range 2000 {
		select {
		case seq := <-seqs:
			check(seq == uint64(i+1), "sequence %d in place %d", seq, i)
		case <-time.After(5 * time.Second):
			check(false, "stuck at %d", i)
		}
	}
	cc.Stop()
	eventually("everything acked", func() bool {
		info := got(c.Info(w.ctx))
		return info.NumAckPending == 0 && info.AckFloor.Stream == 2000
	})
	// The test listens to all inboxes, so a pull that was given up still takes a message: another consumer.
	other := w.consumer(jetstream.ConsumerConfig{Durable: "e", DeliverPolicy: jetstream.DeliverNewPolicy})
	it := got(other.Messages())
	got(w.js[0].Publish(w.ctx, w.name+".x", []byte("last")))
	m := got(it.Next())
	check(string(m.Data()) == "last", "got %s", m.Data())
	it.Stop()
}

func eventually(what string, is func() bool) {
	for range 100 {
		if is() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	check(false, "%s: not in 5 s", what)
}

func acks(w *World) {
	w.stream(jetstream.StreamConfig{})
	w.publish(6)
	c := w.consumer(jetstream.ConsumerConfig{Durable: "d", AckWait: 5 * time.Second})
	m := fetch(c, 6, 3*time.Second)
	check(len(m) == 6, "%d of 6", len(m))
	must(m[0].Ack())
	must(m[1].DoubleAck(w.ctx))
	must(m[2].Nak())
	again := fetchOne(c)
	expectSeq(again, 3, 2)
	must(again.Ack())
	began := time.Now()
	must(m[3].NakWithDelay(700 * time.Millisecond))
	again = fetchOne(c)
	expectSeq(again, 4, 2)
	check(time.Since(began) > 600*time.Millisecond, "nak with delay came at once")
	must(again.DoubleAck(w.ctx))
	must(m[4].Term())
	for range 4 {
		must(m[5].InProgress())
		time.Sleep(1500 * time.Millisecond)
	}
	check(got(c.Info(w.ctx)).NumRedelivered <= 1, "redelivered in spite of in progress")
	check(len(fetch(c, 1, 300*time.Millisecond)) == 0, "redelivered in spite of in progress")
	must(m[5].DoubleAck(w.ctx))
	info := got(c.Info(w.ctx))
	check(info.NumAckPending == 0 && info.AckFloor.Stream == 6 && info.Delivered.Stream == 6 && info.NumPending == 0, "info %+v", info)
}

func redelivery(w *World) {
	w.stream(jetstream.StreamConfig{})
	w.publish(2)
	c := w.consumer(jetstream.ConsumerConfig{Durable: "d", AckWait: 400 * time.Millisecond, MaxDeliver: 3})
	for delivery := range uint64(3) {
		m := fetch(c, 2, 2*time.Second)
		check(len(m) == 2, "%d messages in delivery %d", len(m), delivery)
		expectSeq(m[0], 1, delivery+1)
		expectSeq(m[1], 2, delivery+1)
	}
	check(len(fetch(c, 2, time.Second)) == 0, "delivered more often than max_deliver")
}

func filters(w *World) {
	w.stream(jetstream.StreamConfig{})
	w.publish(12)
	one := w.consumer(jetstream.ConsumerConfig{Durable: "one", FilterSubject: w.name + ".1"})
	check(one.CachedInfo().NumPending == 4, "pending %d", one.CachedInfo().NumPending)
	for i, m := range fetch(one, 10, 500*time.Millisecond) {
		expectSeq(m, uint64(3*i+1), 1)
	}
	two := w.consumer(jetstream.ConsumerConfig{Durable: "two", FilterSubjects: []string{w.name + ".0", w.name + ".2"}})
	check(len(fetch(two, 20, 500*time.Millisecond)) == 8, "two filters")
	late := w.consumer(jetstream.ConsumerConfig{Durable: "late", DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: 11})
	check(len(fetch(late, 20, 500*time.Millisecond)) == 2, "start sequence")
	last := w.consumer(jetstream.ConsumerConfig{Durable: "last", DeliverPolicy: jetstream.DeliverLastPolicy})
	expectSeq(fetchOne(last), 12, 1)
	per := w.consumer(jetstream.ConsumerConfig{Durable: "per", DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
		FilterSubject: w.name + ".>"})
	check(len(fetch(per, 20, 500*time.Millisecond)) == 3, "last per subject")
}

func consumers(w *World) {
	s := w.stream(jetstream.StreamConfig{})
	w.publish(3)
	c := w.consumer(jetstream.ConsumerConfig{Durable: "d", Description: "first"})
	check(c.CachedInfo().Name == "d" && c.CachedInfo().Stream == w.name, "info %+v", c.CachedInfo())
	c = w.consumer(jetstream.ConsumerConfig{Durable: "d", Description: "first"})
	_, err := s.CreateConsumer(w.ctx, jetstream.ConsumerConfig{Durable: "d", AckWait: time.Minute, AckPolicy: jetstream.AckExplicitPolicy})
	check(errors.Is(err, jetstream.ErrConsumerExists), "another configuration: %v", err)
	c = got(s.UpdateConsumer(w.ctx, jetstream.ConsumerConfig{Durable: "d", Description: "second", AckPolicy: jetstream.AckExplicitPolicy}))
	check(c.CachedInfo().Config.Description == "second", "not updated")
	_, err = s.UpdateConsumer(w.ctx, jetstream.ConsumerConfig{Durable: "none", AckPolicy: jetstream.AckExplicitPolicy})
	check(errors.Is(err, jetstream.ErrConsumerDoesNotExist), "update of none: %v", err)
	e := w.consumer(jetstream.ConsumerConfig{InactiveThreshold: 30 * time.Second})
	check(len(fetch(e, 3, time.Second)) == 3, "ephemeral")
	short := w.consumer(jetstream.ConsumerConfig{InactiveThreshold: 500 * time.Millisecond})
	var all []string
	names := s.ConsumerNames(w.ctx)
	for name := range names.Name() {
		all = append(all, name)
	}
	must(names.Err())
	sort.Strings(all)
	check(len(all) == 3, "names %v", all)
	count := 0
	list := s.ListConsumers(w.ctx)
	for range list.Info() {
		count++
	}
	must(list.Err())
	check(count == 3, "list of %d", count)
	eventually("an idle ephemeral consumer ends", func() bool {
		_, err := s.Consumer(w.ctx, short.CachedInfo().Name)
		return errors.Is(err, jetstream.ErrConsumerNotFound)
	})
	must(s.DeleteConsumer(w.ctx, "d"))
	_, err = s.Consumer(w.ctx, "d")
	check(errors.Is(err, jetstream.ErrConsumerNotFound), "after the delete: %v", err)
	check(errors.Is(s.DeleteConsumer(w.ctx, "d"), jetstream.ErrConsumerNotFound), "deleted twice")
	_, err = w.js[1].Consumer(w.ctx, w.name+"none", "d")
	check(errors.Is(err, jetstream.ErrStreamNotFound), "consumer of no stream: %v", err)
}

func limits(w *World) {
	s := w.stream(jetstream.StreamConfig{MaxMsgs: 5})
	w.publish(8)
	info := got(s.Info(w.ctx))
	check(info.State.Msgs == 5 && info.State.FirstSeq == 4, "discard old: %+v", info.State)
	must(w.js[0].DeleteStream(w.ctx, w.name))
	s = w.stream(jetstream.StreamConfig{MaxMsgs: 5, Discard: jetstream.DiscardNew})
	w.publish(5)
	_, err := w.js[1].Publish(w.ctx, w.name+".x", nil)
	check(apiCode(err) == 10077, "discard new: %v", err)
	must(s.DeleteMsg(w.ctx, 2))
	ack := got(w.js[1].Publish(w.ctx, w.name+".x", nil))
	check(ack.Sequence == 6, "after a delete: %+v", ack)
	must(w.js[0].DeleteStream(w.ctx, w.name))
	s = w.stream(jetstream.StreamConfig{MaxMsgsPerSubject: 2})
	w.publish(9)
	info = got(s.Info(w.ctx))
	check(info.State.Msgs == 6 && info.State.FirstSeq == 4, "per subject: %+v", info.State)
	must(w.js[0].DeleteStream(w.ctx, w.name))
	s = w.stream(jetstream.StreamConfig{MaxBytes: 1000, MaxMsgSize: 200})
	for range 20 {
		got(w.js[1].Publish(w.ctx, w.name+".x", make([]byte, 100)))
	}
	info = got(s.Info(w.ctx))
	check(info.State.Bytes <= 1000 && info.State.Msgs >= 5 && info.State.Msgs < 20, "max_bytes: %+v", info.State)
	_, err = w.js[1].Publish(w.ctx, w.name+".x", make([]byte, 201))
	check(apiCode(err) == 10054, "max_msg_size: %v", err)
	must(w.js[0].DeleteStream(w.ctx, w.name))
	s = w.stream(jetstream.StreamConfig{MaxAge: time.Second, Duplicates: time.Second})
	w.publish(5)
	eventually("max_age", func() bool { return got(s.Info(w.ctx)).State.Msgs == 0 })
	info = got(s.Info(w.ctx))
	check(info.State.FirstSeq == 6 && info.State.LastSeq == 5, "after max_age: %+v", info.State)
}

// ---- Running ----

func runOne(label string, w *World, f func(*World)) {
	began := time.Now()
	defer func() {
		if p := recover(); p != nil {
			text, is := p.(failure)
			if !is {
				panic(p)
			}
			fmt.Printf("FAIL %s: %s\n", label, text)
			return
		}
		fmt.Printf("ok %s %.2f s\n", label, time.Since(began).Seconds())
	}()
	for _, url := range w.urls {
		nc := got(nats.Connect(url, nats.ReconnectWait(50*time.Millisecond), nats.MaxReconnects(-1)))
		defer nc.Close()
		w.nc = append(w.nc, nc)
		w.js = append(w.js, got(jetstream.New(nc)))
	}
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	defer func() { _ = w.js[0].DeleteStream(w.ctx, w.name) }()
	f(w)
}

func scenarios(urls []string, wanted func(string) bool) {
	list := []struct {
		name string
		f    func(*World)
		isJs bool
	}{
		{"pubsub", pubsub, false}, {"request", request, false}, {"no_responders", noResponders, false},
		{"queue_groups", queueGroups, false}, {"headers", headers, false}, {"drain", drain, false},
		{"reconnect", reconnect, false}, {"account", account, false}, {"refused", refused, false},
		{"streams", streams, true}, {"publish", publish, true}, {"dedup", dedup, true},
		{"expectations", expectations, true}, {"get_delete", getDelete, true}, {"fetch", fetches, true},
		{"consume", consume, true}, {"acks", acks, true}, {"redelivery", redelivery, true},
		{"filters", filters, true}, {"consumers", consumers, true}, {"limits", limits, true},
	}
	isAlone := len(urls) == 1
	replicas := []int{1, 3}
	if isAlone {
		urls = []string{urls[0], urls[0], urls[0]}
		replicas = []int{1}
	}
	for _, s := range list {
		if !wanted(s.name) || isAlone && s.name == "reconnect" {
			continue
		}
		if !s.isJs {
			runOne(s.name, &World{isAlone: isAlone, urls: urls, name: "GO_" + s.name, replicas: 1}, s.f)
			continue
		}
		for _, r := range replicas {
			w := &World{isAlone: isAlone, urls: urls, name: fmt.Sprintf("GO_%s_R%d", s.name, r), replicas: r}
			runOne(fmt.Sprintf("%s R%d", s.name, r), w, s.f)
		}
	}
}

// The works of raw.cc with Go's net package, and bufio for lines. harness.h says
// what the arguments are and what is printed.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

var values = map[string]string{}

func number(key string, otherwise float64) float64 {
	text, found := values[key]
	if !found {
		return otherwise
	}
	value, _ := strconv.ParseFloat(text, 64)
	return value
}

func size() int          { return int(number("size", 32)) }
func count() int         { return int(number("count", 300)) }
func nanoseconds() int64 { return int64(number("seconds", 0.25) * 1e9) }
func line() []byte       { return []byte(strings.Repeat("x", size()-2) + "\r\n") }
func batch() int         { return max(1, 65536/size()) }

func max(a, b int) int {
	if a > b {
		return a
	}
	return b
}

// The clock of the other processes; Go's own cannot be compared with theirs.
func clock(which uintptr) int64 {
	var ts syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, which, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

func now() int64 { return clock(1) }
func cpu() int64 { return clock(2) }

func pin(to int) {
	runtime.LockOSThread()
	var set [16]uint64
	set[to/64] = 1 << (to % 64)
	syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func report(ops int, ns, cpu int64, times []int64) {
	texts := make([]string, len(times))
	for i, t := range times {
		texts[i] = strconv.FormatInt(t, 10)
	}
	fmt.Printf("{\"ops\": %d, \"ns\": %d, \"cpu_ns\": %d, \"times\": [%s]}\n",
		ops, ns, cpu, strings.Join(texts, ","))
}

func timeTurns(turn func()) {
	for i := 0; i < 100; i++ {
		turn()
	}
	times := make([]int64, 0, 100000)
	cpuStart, begin := cpu(), time.Now()
	before := time.Duration(0)
	for before < time.Duration(nanoseconds()) {
		turn()
		after := time.Since(begin)
		times = append(times, int64(after-before))
		before = after
	}
	report(len(times), int64(time.Since(begin)), cpu()-cpuStart, times)
}

func timeBatches(ops int, some func()) {
	some()
	done := 0
	cpuStart, begin := cpu(), time.Now()
	for time.Since(begin) < time.Duration(nanoseconds()) {
		some()
		done += ops
	}
	report(done, int64(time.Since(begin)), cpu()-cpuStart, nil)
}

func listen() net.Listener {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	check(err)
	return listener
}

func listenAndPrintPort() net.Listener {
	listener := listen()
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	return listener
}

func accept(listener net.Listener) net.Conn {
	conn, err := listener.Accept()
	check(err)
	return conn // Go sets TCP_NODELAY
}

func connect(port int) net.Conn {
	conn, err := net.Dial("tcp4", "127.0.0.1:"+strconv.Itoa(port))
	check(err)
	return conn
}

func connectToServer() net.Conn { return connect(int(number("port", 0))) }

func serveLines() {
	conn := accept(listenAndPrintPort())
	reader := bufio.NewReaderSize(conn, 65536)
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return
		}
		if _, err := conn.Write(line); err != nil {
			return
		}
	}
}

func askLines() {
	conn := connectToServer()
	reader := bufio.NewReaderSize(conn, 65536)
	message := line()
	timeTurns(func() {
		_, err := conn.Write(message)
		check(err)
		_, err = reader.ReadSlice('\n')
		check(err)
	})
}

func serveStructs() {
	conn := accept(listenAndPrintPort())
	data := make([]byte, size())
	for {
		if _, err := io.ReadFull(conn, data); err != nil {
			return
		}
		if _, err := conn.Write(data); err != nil {
			return
		}
	}
}

func askStructs() {
	conn := connectToServer()
	data := make([]byte, size())
	timeTurns(func() {
		_, err := conn.Write(data)
		check(err)
		_, err = io.ReadFull(conn, data)
		check(err)
	})
}

func readLines() {
	reader := bufio.NewReaderSize(connectToServer(), 65536)
	timeBatches(batch(), func() {
		for i := 0; i < batch(); i++ {
			_, err := reader.ReadSlice('\n')
			check(err)
		}
	})
}

func readBlocks() {
	conn := connectToServer()
	data := make([]byte, size())
	timeBatches(1, func() {
		_, err := io.ReadFull(conn, data)
		check(err)
	})
}

func writeBatches() {
	writer := bufio.NewWriterSize(connectToServer(), 65536)
	message, lines := line(), batch()
	timeBatches(lines, func() {
		for i := 0; i < lines; i++ {
			writer.Write(message)
		}
		check(writer.Flush())
	})
}

func writeEach() {
	conn := connectToServer()
	message := line()
	timeBatches(100, func() {
		for i := 0; i < 100; i++ {
			_, err := conn.Write(message)
			check(err)
		}
	})
}

func serveConnects() {
	listener := listenAndPrintPort()
	for {
		accept(listener).Close()
	}
}

func serveTurnAway() {
	listener := listenAndPrintPort()
	first := accept(listener)
	for {
		accept(listener).Close()
	}
	_ = first
}

func serveNotice() {
	listener := listenAndPrintPort()
	times := []int64{}
	for i := 0; i < count(); i++ {
		conn := accept(listener)
		conn.Write([]byte("x"))
		conn.Read(make([]byte, 1))
		times = append(times, now())
		conn.Close()
	}
	report(len(times), 0, 0, times)
}

func unblock() {
	listener := listen()
	port := listener.Addr().(*net.TCPAddr).Port
	pin(int(number("cpu", 0)))
	times := []int64{}
	for i := 0; i < count(); i++ {
		here := connect(port)
		there := accept(listener)
		woken := make(chan int64)
		go func() {
			pin(int(number("other_cpu", 1)))
			here.Read(make([]byte, 1))
			woken <- now()
		}()
		time.Sleep(300 * time.Microsecond)
		start := now()
		here.Close()
		times = append(times, <-woken-start)
		there.Close()
	}
	report(len(times), 0, 0, times)
}

func main() {
	for _, word := range os.Args[4:] {
		key, value, _ := strings.Cut(word, "=")
		values[key] = value
	}
	roles := map[string]func(){
		"server ping_pong":     serveLines,
		"client ping_pong":     askLines,
		"server struct":        serveStructs,
		"client struct":        askStructs,
		"client read":          readLines,
		"client bulk":          readBlocks,
		"client write_batches": writeBatches,
		"client write_each":    writeEach,
		"server connect":       serveConnects,
		"server turn_away":     serveTurnAway,
		"server notice":        serveNotice,
		"local unblock":        unblock,
	}
	role, found := roles[os.Args[1]+" "+os.Args[2]]
	if !found {
		os.Exit(3)
	}
	role()
}

// The soak: servers and clients of every kind that serve and talk for a long
// time, under faults that come by chance, with the library's promises checked
// all along:
//
//  * connection events alternate, are numbered 1, 2, 3, ..., and none comes
//    after close() has returned;
//  * what arrives is byte-exact, in order, and from its own connection;
//  * half-closed clients of read-loop servers get all their replies;
//  * a client that is turned away reads the end of the stream;
//  * after every fault a server serves a new client within its bound;
//  * close() returns within its bound;
//  * nothing spins while nothing happens;
//  * after every generation of servers no descriptor and no thread is left, and
//    memory does not grow.
//
// Threads: run_soak() is for the main thread; it starts others and joins them.
#ifndef TESTS_ENDURANCE_SOAK_H_
#define TESTS_ENDURANCE_SOAK_H_

#include <chrono>
#include <cstdint>
#include <string>

namespace tcpip_tests {

struct SoakOptions {
  std::chrono::milliseconds time{std::chrono::minutes(1)};
  std::uint64_t seed = 1;
  // The soak program itself, which is run as a peer in a process of its own.
  // Empty: without such peers.
  std::string program;
  // Allocations fail now and then. For a child process: see soak.cc.
  bool without_memory = false;
  // No progress lines and no summary, only what is wrong.
  bool quiet = false;
};

// Returns 0 if nothing was wrong.
int run_soak(const SoakOptions& options);

// A peer in a process of its own: talks to the text server at this port, and
// says "talking" and its id once it has a reply, until it is killed or the
// server ends the connection.
int run_peer(int port);

}  // namespace tcpip_tests

#endif  // TESTS_ENDURANCE_SOAK_H_

// Two hosts, each with a network of its own, and a cable between them that a
// test can cut, or make lose, delay, reorder, refuse or slow down what passes.
//
//   TwoHosts hosts;                       // this thread is on the host "here"
//   const PlainListener listener = hosts.listen_there(Transport::kIpv4);
//   Client client({.host = hosts.there(Transport::kIpv4), ...});
//   hosts.cut();
//   ... the client's connection times out ...
//
// The hosts are network namespaces of this process, the cable is a thread that
// carries Ethernet frames from one TAP device to another. So resolution of
// addresses, routes, retransmission and errors are the kernel's own. Needed are
// the right to make namespaces (root, or user namespaces for everybody) and
// /dev/net/tun; nothing is installed, and nothing outside is changed.
//
// Threads: for the thread that runs the test. Threads that it starts are on the
// host on which it is at that time, and so are their sockets.
#ifndef TESTS_SUPPORT_TWO_HOSTS_H_
#define TESTS_SUPPORT_TWO_HOSTS_H_

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "tcpip/unique_fd.h"
#include "tests/support/hang_guard.h"
#include "tests/support/loopback.h"

namespace tcpip_tests {

// What is missing on this machine. A test skips itself with the message.
class NotPermitted : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What the cable does to the frames of one direction.
struct CableFaults {
  bool cut = false;
  double loss = 0;  // the share of TCP segments that are lost
  std::chrono::milliseconds delay{0};
  // Each frame takes up to so much longer, so that frames overtake each other.
  std::chrono::milliseconds jitter{0};
  std::size_t longest_packet = 0;  // in bytes; a longer one is lost; 0: any
  // How fast the cable is; 0: at once. What would wait longer than 0.4 s is
  // lost.
  double bytes_per_second = 0;
  bool lose_syn = false;
  bool lose_fin_and_rst = false;
  bool lose_ipv6_tcp = false;
  bool lose_udp = false;
  // A segment with data arrives as a reset in its place, as if a firewall had
  // dropped the connection.
  bool reset_data = false;
};

class TwoHosts {
 public:
  // Throws NotPermitted, and std::system_error if something else fails. The
  // process must have one thread only, unless it is root's.
  TwoHosts();
  // Brings the thread back to where it was. All sockets should be closed.
  ~TwoHosts();
  TwoHosts(const TwoHosts&) = delete;
  TwoHosts& operator=(const TwoHosts&) = delete;

  // The numeric addresses of the two hosts.
  static std::string here(Transport transport);
  static std::string there(Transport transport);

  // Calls the function on the other host.
  template <class Function>
  auto on_other_host(Function function) const {
    const Visit visit(*this);
    return function();
  }
  PlainListener listen_there(Transport transport) const;
  // Connects from the other host to this one.
  tcpip::UniqueFd connect_from_there(Transport transport, int port) const;

  // --- The cable ---

  void set(const CableFaults& both_ways) { set(both_ways, both_ways); }
  void set(const CableFaults& to_there, const CableFaults& to_here);
  void cut() { set({.cut = true}); }
  void restore() { set({}); }
  // How many frames faults have lost or changed.
  int hits() const;

  // Takes this host's device down. The address goes with it.
  void take_device_down();
  // The kernel forgets which device has the other host's IPv4 address, as it
  // does by itself when an address has been silent for a while.
  void forget_neighbour();

 private:
  class Cable;
  class Visit {
   public:
    explicit Visit(const TwoHosts& hosts);
    ~Visit();
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    const TwoHosts& hosts_;
  };

  void meet() const;
  void leave() noexcept;

  tcpip::UniqueFd outside_;
  tcpip::UniqueFd here_;
  tcpip::UniqueFd there_;
  std::unique_ptr<Cable> cable_;
};

// A file of this system that reads otherwise, for this process. Throws
// NotPermitted.
class FileInstead {
 public:
  FileInstead(std::string path, const std::string& text);
  ~FileInstead();
  FileInstead(const FileInstead&) = delete;
  FileInstead& operator=(const FileInstead&) = delete;

 private:
  const std::string path_;
};

// Ends the TCP connection as `ss -K` does. The errno; EOPNOTSUPP if the kernel
// does not offer that.
int destroy_connection(int fd);

// Closes a TCP socket without FIN or reset, as if its host had lost power.
// False if that is not permitted.
bool vanish(tcpip::UniqueFd fd);

// A fixture that has them, or skips the test and says why.
class TwoHostsTest : public testing::Test {
 protected:
  void SetUp() override {
    try {
      hosts_.emplace();
    } catch (const NotPermitted& e) {
      GTEST_SKIP() << e.what();
    }
  }
  TwoHosts& hosts() { return *hosts_; }

 private:
  const HangGuard guard_;
  std::optional<TwoHosts> hosts_;
};

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_TWO_HOSTS_H_

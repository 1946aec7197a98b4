// System calls and allocations that fail, are short, come too early or take
// their time, when a test says so.
//
//   const faults::Plan plan("recv", faults::nth(3).error(EINTR));
//   ... the third recv() from here on fails with EINTR ...
//   EXPECT_EQ(plan.injected(), 1);
//
// A test that depends on //tests/support:faults has each call in names()
// caught at link time (-Wl,--wrap=...), with g++, clang and every sanitizer.
// Caught are the calls of all that is linked statically: the library, the test
// and GoogleTest. The test's own calls are left alone inside an Exempt.
// A Tally (tally.h) of the calling thread counts them.
//
// What the calls are:
//
//   "recv", "ppoll", ...  system calls by their names; "eventfd" makes one,
//                         "read" and "write" are what is done with it
//   "close", "shutdown"   act also when they fail: Linux frees the number, and
//                         wakes who waits for the socket, whatever it returns
//   "getaddrinfo"         the error is an EAI_ constant, or an errno
//                         (EAI_SYSTEM)
//   "thread"              the constructor of std::thread and std::jthread
//   "new"                 operator new, all of them: std::bad_alloc whatever
//                         the error
//
// Threads: everything may be used from any thread. Nothing here allocates
// inside a caught call.
#ifndef TESTS_SUPPORT_FAULTS_H_
#define TESTS_SUPPORT_FAULTS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string_view>

namespace tcpip_tests::faults {

// Which calls of one name, and what happens to them. Counts the calls that
// on(), of_tcp() and here() let through, from 1.
class Rule {
 public:
  // --- What happens ---
  // The call fails with this errno and has no effect.
  Rule error(int value) const { return with(Action::kError, value); }
  // recv, send and sendmsg: the call moves at most so many bytes. A recv that
  // only drops bytes (MSG_TRUNC) is left alone.
  Rule at_most(int bytes) const { return with(Action::kShort, bytes); }
  // poll and ppoll: the call returns at once and says that all that is waited
  // for can be read and written. A hang-up is never made up.
  Rule ready() const { return with(Action::kReady, 0); }
  // The thread yields or sleeps before and after the call, for up to so many
  // microseconds each, in half of the cases not at all.
  Rule pause(int microseconds) const {
    return with(Action::kPause, microseconds);
  }

  // --- To which calls ---
  Rule times(int count) const {
    Rule rule = *this;
    rule.last_ = first_ + count - 1;
    return rule;
  }
  // To those on this descriptor only.
  Rule on(int fd) const {
    Rule rule = *this;
    rule.fd_ = fd;
    return rule;
  }
  // setsockopt and getsockopt: to those of this option of IPPROTO_TCP only.
  Rule of_tcp(int option) const {
    Rule rule = *this;
    rule.tcp_option_ = option;
    return rule;
  }
  // To those of the calling thread only.
  Rule here() const;

 private:
  friend Rule from_nth(int n);
  friend Rule sometimes(double probability, std::uint64_t seed);
  friend struct Slot;
  enum class Action { kError, kShort, kReady, kPause };

  Rule with(Action action, int value) const {
    Rule rule = *this;
    rule.action_ = action;
    rule.value_ = value;
    return rule;
  }

  int first_ = 1;
  int last_ = std::numeric_limits<int>::max();
  // The share of the calls from first_ to last_; above 1 for all.
  double probability_ = 2;
  std::uint64_t seed_ = 0;
  int fd_ = -1;
  int tcp_option_ = -1;
  int thread_ = 0;
  Action action_ = Action::kPause;
  int value_ = 0;
};

Rule from_nth(int n);  // the nth call and all behind it
inline Rule always() { return from_nth(1); }
inline Rule nth(int n) { return from_nth(n).times(1); }
// Each call with this probability. The same seed gives the same answers to the
// first call, the second, and so on.
Rule sometimes(double probability, std::uint64_t seed = 1);

// All names, and those of the calls that a signal may interrupt.
std::span<const std::string_view> names();
std::span<const std::string_view> interruptible();

// Rules that hold as long as it lives. Several may hold for one call, of one
// plan or of more: the first one made that has an error for it decides.
class Plan {
 public:
  Plan(std::string_view name, const Rule& rule) { add(name, rule); }
  Plan(std::span<const std::string_view> names, const Rule& rule) {
    for (const std::string_view name : names) add(name, rule);
  }
  Plan() = default;
  ~Plan();
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  // Throws std::invalid_argument for an unknown name, std::length_error if
  // there are too many rules.
  void add(std::string_view name, const Rule& rule);
  // Ends all of it before the destructor does. No caught call uses a rule of
  // this plan once it returns. calls() and injected() stay.
  void lift();

  // So many calls were counted; so many of them were changed.
  int calls() const;
  int injected() const;

 private:
  static constexpr std::size_t kMaxRules = 64;
  std::array<int, kMaxRules> slots_{};
  std::size_t count_ = 0;
  bool lifted_ = false;
  int calls_ = 0;
  int injected_ = 0;
};

// While it lives, the calls of this thread are neither changed nor counted.
class Exempt {
 public:
  Exempt() noexcept;
  ~Exempt();
  Exempt(const Exempt&) = delete;
  Exempt& operator=(const Exempt&) = delete;
};

// What the calls of the process ask for, since reset_audit().
struct Audit {
  int sends = 0;
  int sends_that_may_signal = 0;  // without MSG_NOSIGNAL
  int made = 0;                   // descriptors
  int made_without_cloexec = 0;
  int writes_to_sockets = 0;
};
void reset_audit();
Audit audit();

}  // namespace tcpip_tests::faults

#endif  // TESTS_SUPPORT_FAULTS_H_

// The calls that each message and each connection costs, against bounds.h:
// system calls, locks, allocations, looks at the clock. Nothing is timed, so a
// busy machine changes nothing.
#include <gtest/gtest.h>
#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tcpip/callback_queue.h"
#include "tcpip/one_client_server.h"
#include "tcpip/thread_hook.h"
#include "tcpip/unique_fd.h"
#include "tests/cost/bounds.h"
#include "tests/cost/works.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/tally.h"
#include "tests/support/wait_until.h"
#include "tests/support/waiting_thread.h"

namespace tcpip_tests {
namespace {

constexpr int kMessages = 1000;

// Works of other threads; works.cc has the rest.
constexpr std::string_view kReadLoop =
    "OneClientReadLoopServer: read_str, write_str";
constexpr std::string_view kConnects = "accept thread: a client connects";
constexpr std::string_view kCloses = "accept thread: a client closes";
constexpr std::string_view kTurnedAway =
    "accept thread: a client is turned away";

std::uint64_t count_of(const Counts& counts, std::string_view name) {
  const auto place = counts.find(name);
  return place == counts.end() ? 0 : place->second;
}

Counts difference(const Counts& after, const Counts& before) {
  Counts counts;
  for (const auto& [name, count] : after) {
    // "malloc" has what "new" has.
    const std::uint64_t more = count - count_of(before, name);
    if (more > 0 && name != "new") counts.emplace(name, more);
  }
  return counts;
}

// `counted`: of `messages` messages together.
void expect_as_bounded(std::string_view work, const Counts& counted,
                       std::uint64_t messages) {
  const Bound* const bound = find_bound(work);
  Counts names = parse_counts(bound == nullptr ? "" : bound->calls);
  const Counts allowed = names;
  names.insert(counted.begin(), counted.end());
  Counts each;
  for (const auto& [name, unused] : names) {
    const std::uint64_t got = count_of(counted, name);
    const std::uint64_t most = count_of(allowed, name);
    if (got > 0) each.emplace(name, (got + messages - 1) / messages);
    if (name == "malloc" && most > 1 && !kHasBoundsOfTheCompiler) continue;
    EXPECT_LE(got, most * messages)
        << work << ": "
        << static_cast<double>(got) / static_cast<double>(messages)
        << " calls of " << name << " for each message, where bounds.h allows "
        << most;
    EXPECT_GE(got, most * messages)
        << work << ": "
        << static_cast<double>(got) / static_cast<double>(messages)
        << " calls of " << name << " for each message, where bounds.h says "
        << most << ": lower the bound";
  }
  if (testing::Test::HasFailure() || bound == nullptr) {
    ADD_FAILURE() << "counted: {\"" << work << "\", \"" << to_string(each)
                  << "\"}";
  }
}

class CallsTest : public testing::TestWithParam<NamedWork> {};

TEST_P(CallsTest, AreThoseOfTheTable) {
  const Work work = GetParam().make();
  Tally tally;
  const auto run = [&](int messages) {
    for (int i = 0; i < messages; ++i) {
      work.before();
      tally.attach();
      work.counted();
      Tally::detach();
      work.after();
    }
  };
  run(kWarmUp);
  const Counts before = tally.counts();
  run(kMessages);
  expect_as_bounded(GetParam().name, difference(tally.counts(), before),
                    kMessages);
}

std::string test_name(const testing::TestParamInfo<NamedWork>& work) {
  std::string name(work.param.name);
  std::erase_if(name, [](char c) { return c == ',' || c == ':'; });
  std::ranges::replace(name, ' ', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Work, CallsTest,
                         testing::ValuesIn(works().begin(), works().end()),
                         test_name);

TEST(ReadLoopCallsTest, AreThoseOfTheTable) {
  Tally tally;
  run_read_loop(
      kMessages, [&] { tally.attach(); }, [] { Tally::detach(); });
  expect_as_bounded(kReadLoop, difference(tally.counts(), {}), kMessages);
}

// --- The accept thread ---

// A server whose accept thread has a tally.
class AcceptCallsTest : public testing::Test {
 protected:
  AcceptCallsTest()
      : server_({.host = "127.0.0.1",
                 .callbacks = &queue_,
                 .connect_callback = [](const tcpip::ConnectionEvent&) {},
                 .thread_start_hook =
                     [this](tcpip::ThreadRole) {
                       accept_thread_ = this_thread_id();
                       tally_.attach();
                     }}) {
    server_.start(kPatience);
    await_quiet();
  }

  // Until the accept thread waits for something that has not happened yet.
  void await_quiet() {
    EXPECT_TRUE(soon([this] {
      const std::uint64_t calls = tally_.total();
      return is_blocked_in_poll(accept_thread_) && tally_.total() == calls;
    }));
  }
  // A client that the server has accepted.
  tcpip::UniqueFd connect() {
    const std::uint64_t before = server_.connection_count();
    tcpip::UniqueFd peer = connect_to(server_.port());
    EXPECT_TRUE(soon([&] { return server_.connection_count() > before; }));
    await_quiet();
    return peer;
  }
  // What each call of `once` makes the accept thread call. Not one in ten may
  // differ from the others: now and then, something else is due in that thread.
  void expect_as_bounded_each(std::string_view work,
                              const std::function<void()>& once,
                              const std::function<void()>& after = {},
                              const std::function<void()>& before = {}) {
    std::map<Counts, int> seen;
    for (int i = 0; i < kWarmUp + kMessages; ++i) {
      if (before) before();
      const Counts at_first = tally_.counts();
      once();
      await_quiet();
      if (i >= kWarmUp) ++seen[difference(tally_.counts(), at_first)];
      if (after) after();
      queue_.run_pending();
    }
    const auto usual = std::ranges::max_element(
        seen, {}, [](const auto& entry) { return entry.second; });
    for (const auto& [counts, times] : seen) {
      EXPECT_TRUE(counts == usual->first || usual->second > kMessages * 9 / 10)
          << work << ": " << times << " times " << to_string(counts);
    }
    expect_as_bounded(work, usual->first, 1);
  }

  Tally tally_;
  std::atomic<pid_t> accept_thread_{0};
  tcpip::CallbackQueue queue_;
  tcpip::OneClientServer server_;
};

TEST_F(AcceptCallsTest, ForAConnectionAreThoseOfTheTable) {
  tcpip::UniqueFd peer;
  expect_as_bounded_each(
      kConnects, [&] { peer = connect(); },
      [&] {
        peer.reset();
        EXPECT_TRUE(soon([&] { return !server_.connected(); }));
        await_quiet();
      });
}

TEST_F(AcceptCallsTest, ForTheEndOfAConnectionAreThoseOfTheTable) {
  tcpip::UniqueFd peer;
  expect_as_bounded_each(
      kCloses,
      [&] {
        peer.reset();
        EXPECT_TRUE(soon([&] { return !server_.connected(); }));
        await_quiet();
      },
      {}, [&] { peer = connect(); });
}

TEST_F(AcceptCallsTest, ForAClientThatIsTurnedAwayAreThoseOfTheTable) {
  const tcpip::UniqueFd current = connect();
  expect_as_bounded_each(kTurnedAway, [&] {
    const tcpip::UniqueFd peer = connect_to(server_.port());
    EXPECT_EQ(recv_until_eof(peer), "");
    await_quiet();  // or the peer would close before the server looks for it
  });
}

TEST(BoundsTest, EachIsOfAWork) {
  std::set<std::string_view> names{kReadLoop, kConnects, kCloses, kTurnedAway};
  for (const NamedWork& work : works()) names.insert(work.name);
  for (const Bound& bound : kBounds) {
    EXPECT_EQ(names.erase(bound.work), 1u) << bound.work;
  }
  for (const std::string_view name : names) {
    ADD_FAILURE() << name << " has no bound";
  }
}

}  // namespace
}  // namespace tcpip_tests

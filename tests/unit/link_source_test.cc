// What a call finds its connection in, and that nothing of a connection that
// has ended stays there. tests/model/link_cache.pml proves the protocol;
// cost/calls_test.cc counts what it saves.
#include "tcpip/endpoint/link_source.h"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/base/mutex.h"
#include "tcpip/endpoint/text.h"

namespace tcpip::internal {
namespace {

using For = LinkUse::For;

// Stands for a Link: nobody looks into it here.
std::shared_ptr<Link> make_link(std::shared_ptr<int> body) {
  Link* const place = reinterpret_cast<Link*>(body.get());
  return {std::move(body), place};
}

class Source final : public LinkSource {
 public:
  std::shared_ptr<Link> link() const override { return text_link().link; }
  TextLink text_link() const override {
    ++asked;
    if (fails) throw std::logic_error("text_link");
    const MutexLock lock(mutex_);
    return current_;
  }
  std::string subject() const override { return "subject"; }

  void begin(std::shared_ptr<int> body) {
    const MutexLock lock(mutex_);
    current_.link = make_link(std::move(body));
    note_change();
  }
  void set_format(std::shared_ptr<const TextFormat> format) {
    const MutexLock lock(mutex_);
    current_.format = std::move(format);
    note_change();
  }
  void end() {
    {
      const MutexLock lock(mutex_);
      note_change();
      current_.link = nullptr;
    }
    forget();
  }

  mutable std::atomic<int> asked{0};
  std::atomic<bool> fails{false};

 private:
  mutable Mutex mutex_;
  TextLink current_ TCPIP_GUARDED_BY(mutex_);
};

std::shared_ptr<const TextFormat> make_format() {
  return std::make_shared<const TextFormat>(
      std::make_shared<const TextCodec>("utf-8"), "\n");
}

TEST(LinkUseTest, OfNoSourceHasNothing) {
  const LinkUse use(nullptr, For::kRead, "test");
  EXPECT_EQ(use.link(), nullptr);
  EXPECT_EQ(use.format(), nullptr);
}

TEST(LinkUseTest, AsksTheSourceOnceForCallsOfOneKind) {
  Source source;
  const auto body = std::make_shared<int>();
  source.begin(body);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(LinkUse(&source, For::kRead, "test").link(),
              make_link(body).get());
  }
  EXPECT_EQ(source.asked, 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(LinkUse(&source, For::kWrite, "test").link(),
              make_link(body).get());
  }
  EXPECT_EQ(source.asked, 2);
}

TEST(LinkUseTest, OfAnotherThreadAtTheSameTimeAsksForItself) {
  Source source;
  const auto body = std::make_shared<int>();
  source.begin(body);
  const LinkUse first(&source, For::kRead, "test");
  const LinkUse second(&source, For::kRead, "test");
  EXPECT_EQ(second.link(), first.link());
  EXPECT_EQ(source.asked, 2);
}

TEST(LinkUseTest, FindsTheNextConnectionAndTheNextFormat) {
  Source source;
  source.begin(std::make_shared<int>());
  EXPECT_NE(LinkUse(&source, For::kRead, "test").link(), nullptr);
  const auto next = std::make_shared<int>();
  source.begin(next);
  EXPECT_EQ(LinkUse(&source, For::kRead, "test").link(), make_link(next).get());
  const auto format = make_format();
  source.set_format(format);
  EXPECT_EQ(LinkUse(&source, For::kRead, "test").format(), format.get());
}

TEST(LinkUseTest, WithoutAConnectionFindsEachNewFormat) {
  Source source;
  EXPECT_EQ(LinkUse(&source, For::kWrite, "test").format(), nullptr);
  // The last format of an ended connection is told by nobody.
  EXPECT_EQ(LinkUse(&source, For::kWrite, "test").link(), nullptr);
  EXPECT_EQ(source.asked, 2);
}

TEST(LinkUseTest, KeepsNothingOfAConnectionThatHasEnded) {
  Source source;
  auto body = std::make_shared<int>();
  const std::weak_ptr<int> watched = body;
  source.begin(std::move(body));
  EXPECT_NE(LinkUse(&source, For::kRead, "test").link(), nullptr);
  EXPECT_NE(LinkUse(&source, For::kWrite, "test").link(), nullptr);
  EXPECT_FALSE(watched.expired());
  source.end();
  EXPECT_TRUE(watched.expired());
  EXPECT_EQ(LinkUse(&source, For::kRead, "test").link(), nullptr);
}

TEST(LinkUseTest, KeepsTheConnectionAfterOneThatHasEnded) {
  Source source;
  source.begin(std::make_shared<int>());
  EXPECT_NE(LinkUse(&source, For::kRead, "test").link(), nullptr);
  source.end();
  source.begin(std::make_shared<int>());
  const int before = source.asked;
  for (int i = 0; i < 3; ++i) {
    EXPECT_NE(LinkUse(&source, For::kRead, "test").link(), nullptr);
  }
  EXPECT_EQ(source.asked, before + 1);
}

TEST(LinkUseTest, KeepsTheConnectionUntilItsCallEnds) {
  Source source;
  auto body = std::make_shared<int>();
  const std::weak_ptr<int> watched = body;
  source.begin(std::move(body));
  {
    const LinkUse use(&source, For::kRead, "test");
    source.end();
    EXPECT_FALSE(watched.expired());
  }
  EXPECT_TRUE(watched.expired());
}

// As when a stop callback destroys the Connection in whose call it runs: then
// only what the call keeps alive keeps the source.
TEST(LinkUseTest, MayBeTheLastToKeepItsSource) {
  auto source = std::make_shared<Source>();
  const std::weak_ptr<Source> watched = source;
  struct Body {
    int place = 0;
    std::shared_ptr<Source> source;
  };
  auto body = std::make_shared<Body>(Body{0, source});
  source->begin(std::shared_ptr<int>(body, &body->place));
  body.reset();
  {
    const LinkUse use(source.get(), For::kRead, "test");
    source->end();
    source.reset();
    EXPECT_FALSE(watched.expired());
  }
  EXPECT_TRUE(watched.expired());
}

TEST(LinkUseTest, LeavesTheCacheToTheNextCallIfTheSourceThrows) {
  Source source;
  source.fails = true;
  EXPECT_THROW(LinkUse(&source, For::kRead, "test"), std::logic_error);
  source.fails = false;
  const auto body = std::make_shared<int>();
  source.begin(body);
  EXPECT_EQ(LinkUse(&source, For::kRead, "test").link(), make_link(body).get());
  EXPECT_EQ(LinkUse(&source, For::kRead, "test").link(), make_link(body).get());
  EXPECT_EQ(source.asked, 2);
}

// For ThreadSanitizer, and to meet each order of the steps.
TEST(LinkUseTest, OfManyThreadsFindsNoEndedConnectionAndKeepsNone) {
  constexpr int kRounds = 3000;
  constexpr int kCallers = 3;
  Source source;
  std::weak_ptr<int> watched;
  std::atomic<bool> is_over{false};
  std::atomic<int> wrong{0};
  std::barrier round(kCallers + 1);
  std::vector<std::jthread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&, i] {
      const For use = i == 0 ? For::kWrite : For::kRead;
      for (int r = 0; r < kRounds; ++r) {
        round.arrive_and_wait();
        for (int n = 0; n < 4; ++n) {
          const bool was_over = is_over;
          const LinkUse found(&source, use, "test");
          if (was_over && found.link() != nullptr) ++wrong;
        }
        round.arrive_and_wait();
      }
    });
  }
  int kept = 0;
  for (int r = 0; r < kRounds; ++r) {
    auto body = std::make_shared<int>();
    watched = body;
    source.begin(std::move(body));
    is_over = false;
    round.arrive_and_wait();
    source.end();
    is_over = true;
    round.arrive_and_wait();
    if (!watched.expired()) ++kept;
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(kept, 0);
}

}  // namespace
}  // namespace tcpip::internal

#include "tcpip/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <type_traits>
#include <utility>

namespace tcpip {
namespace {

static_assert(!std::is_copy_constructible_v<UniqueFd>);
static_assert(std::is_nothrow_move_constructible_v<UniqueFd>);
static_assert(std::is_nothrow_move_assignable_v<UniqueFd>);
static_assert(!std::is_convertible_v<int, UniqueFd>);

int open_descriptor() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }
bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(UniqueFd, IsEmptyByDefault) {
  const UniqueFd fd;
  EXPECT_FALSE(fd);
  EXPECT_EQ(fd.get(), -1);
}

TEST(UniqueFd, TakesDescriptorZeroForOne) {
  UniqueFd fd(0);
  EXPECT_TRUE(fd);
  EXPECT_EQ(fd.release(), 0);
}

TEST(UniqueFd, ClosesWhenItGoes) {
  const int raw = open_descriptor();
  ASSERT_GE(raw, 0);
  {
    const UniqueFd fd(raw);
    EXPECT_TRUE(fd);
    EXPECT_EQ(fd.get(), raw);
    EXPECT_TRUE(is_open(raw));
  }
  EXPECT_FALSE(is_open(raw));
}

TEST(UniqueFd, ReleaseGivesTheDescriptorAway) {
  const int raw = open_descriptor();
  {
    UniqueFd fd(raw);
    EXPECT_EQ(fd.release(), raw);
    EXPECT_FALSE(fd);
  }
  EXPECT_TRUE(is_open(raw));
  ::close(raw);
}

TEST(UniqueFd, ResetClosesTheOldOne) {
  const int first = open_descriptor();
  const int second = open_descriptor();
  UniqueFd fd(first);
  fd.reset(second);
  EXPECT_FALSE(is_open(first));
  EXPECT_TRUE(is_open(second));
  fd.reset();
  EXPECT_FALSE(is_open(second));
  EXPECT_FALSE(fd);
}

TEST(UniqueFd, MovesTheDescriptor) {
  const int raw = open_descriptor();
  UniqueFd first(raw);
  UniqueFd second(std::move(first));
  EXPECT_FALSE(first);
  EXPECT_EQ(second.get(), raw);
  const int other = open_descriptor();
  UniqueFd third(other);
  third = std::move(second);
  EXPECT_FALSE(second);
  EXPECT_EQ(third.get(), raw);
  EXPECT_TRUE(is_open(raw));
  EXPECT_FALSE(is_open(other));
}

TEST(UniqueFd, SurvivesAMoveToItself) {
  const int raw = open_descriptor();
  UniqueFd fd(raw);
  UniqueFd& same = fd;
  fd = std::move(same);
  EXPECT_EQ(fd.get(), raw);
  EXPECT_TRUE(is_open(raw));
}

TEST(UniqueFd, KeepsErrno) {
  UniqueFd fd(open_descriptor());
  errno = EAGAIN;
  fd.reset();
  EXPECT_EQ(errno, EAGAIN);
  const int raw = open_descriptor();
  ::close(raw);
  fd.reset(raw);
  errno = EAGAIN;
  fd.reset();  // fails with EBADF
  EXPECT_EQ(errno, EAGAIN);
}

}  // namespace
}  // namespace tcpip

#include "tcpip/net/socket_file.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "tcpip/address.h"
#include "tcpip/unique_fd.h"
#include "tests/support/socket_files.h"

namespace tcpip::internal {
namespace {

using tcpip_tests::bound_to;
using tcpip_tests::exists;
using tcpip_tests::inode_of;
using tcpip_tests::leave_socket_file;
using tcpip_tests::TemporaryFolder;

class SocketFileTest : public testing::Test {
 protected:
  const std::string& path() const { return path_; }
  Address address() const { return resolve("unix:" + path_, 0).front(); }
  std::string obstacle() const { return remove_stale_file(address()); }

 private:
  const TemporaryFolder folder_;
  const std::string path_ = folder_.path() + "/socket";
};

TEST_F(SocketFileTest, PathIsThatOfAFile) {
  EXPECT_EQ(path_of(address()), path());
  EXPECT_EQ(path_of(resolve("unix:@dome", 0).front()), "");
  EXPECT_EQ(path_of(resolve("127.0.0.1", 0).front()), "");
  EXPECT_EQ(path_of(Address()), "");
}

TEST_F(SocketFileTest, RemovesTheFileOfAServerThatHasEnded) {
  leave_socket_file(path());
  EXPECT_EQ(obstacle(), "");
  EXPECT_FALSE(exists(path()));
  EXPECT_EQ(obstacle(), "") << "without a file";
}

TEST_F(SocketFileTest, LeavesASocketThatIsBound) {
  for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    const UniqueFd fd = bound_to(path(), type);
    EXPECT_EQ(obstacle(), "a process is listening there");
    EXPECT_TRUE(exists(path()));
    ::unlink(path().c_str());
  }
}

TEST_F(SocketFileTest, DoesNotConnectToAServer) {
  const UniqueFd fd = bound_to(path());
  ASSERT_EQ(::listen(fd.get(), 1), 0);
  EXPECT_EQ(obstacle(), "a process is listening there");
  pollfd client{fd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&client, 1, 0), 0);
}

TEST_F(SocketFileTest, LeavesWhatIsNotASocket) {
  std::ofstream(path()) << "precious";
  EXPECT_EQ(obstacle(), "the file is not a socket");
  EXPECT_TRUE(exists(path()));
  ::unlink(path().c_str());
  ASSERT_EQ(::symlink("elsewhere", path().c_str()), 0);
  EXPECT_EQ(obstacle(), "the file is not a socket");
  EXPECT_TRUE(exists(path()));
  ::unlink(path().c_str());
  ASSERT_EQ(::mkdir(path().c_str(), 0700), 0);
  EXPECT_EQ(obstacle(), "the file is not a socket");
}

TEST_F(SocketFileTest, LeavesAnAbstractName) {
  EXPECT_STREQ(remove_stale_file(resolve("unix:@dome", 0).front()),
               "the name is in use");
}

TEST_F(SocketFileTest, IsRemovedByTheDestructor) {
  {
    SocketFile file(path());
    leave_socket_file(path());
    file.note_made();
  }
  EXPECT_FALSE(exists(path()));
}

TEST_F(SocketFileTest, StaysIfItWasMadeByAnother) {
  leave_socket_file(path());
  { const SocketFile file(path()); }
  EXPECT_TRUE(exists(path()));
}

TEST_F(SocketFileTest, StaysIfItWasReplaced) {
  SocketFile file(path());
  const UniqueFd first = bound_to(path());
  file.note_made();
  // The first one keeps its number.
  ASSERT_EQ(::rename(path().c_str(), (path() + "2").c_str()), 0);
  leave_socket_file(path());
  const ino_t second = inode_of(path());
  file.remove();
  EXPECT_EQ(inode_of(path()), second);
}

TEST_F(SocketFileTest, IsRemovedOnce) {
  SocketFile file(path());
  leave_socket_file(path());
  file.note_made();
  file.remove();
  leave_socket_file(path());
  file.remove();
  EXPECT_TRUE(exists(path()));
}

TEST_F(SocketFileTest, StaysInAChild) {
  SocketFile file(path());
  leave_socket_file(path());
  file.note_made();
  const pid_t child = ::fork();
  if (child == 0) {
    file.remove();
    ::_exit(0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(exists(path()));
}

}  // namespace
}  // namespace tcpip::internal

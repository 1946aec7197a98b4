#include "tcpip/inherited_descriptors.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "tcpip/error.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/testing/wait_until.h"

namespace tcpip {
namespace {

using tcpip_testing::kPatience;

// Runs the body in a child process, whose environment and descriptors are its
// own. `pid`: LISTEN_PID is the child's.
void in_child(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    body();
    std::fflush(nullptr);
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

void set(const char* name, const std::string& value) {
  ::setenv(name, value.c_str(), 1);
}

// Descriptors 3 and 4 listen.
void make_descriptors() {
  for (const int fd : {3, 4}) {
    const int made = ::socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(::listen(made, 8), 0);
    ASSERT_EQ(::dup2(made, fd), fd);
    if (made > 4) ::close(made);
  }
  set("LISTEN_PID", std::to_string(::getpid()));
  set("LISTEN_FDS", "2");
}

int error_of_call() {
  try {
    inherited_descriptors();
    return 0;
  } catch (const Error& e) {
    return e.code().value();
  }
}

TEST(InheritedDescriptors, AreNoneWithoutTheEnvironment) {
  in_child([] {
    ::unsetenv("LISTEN_PID");
    ::unsetenv("LISTEN_FDS");
    EXPECT_TRUE(inherited_descriptors().empty());
    set("LISTEN_FDS", "2");
    EXPECT_TRUE(inherited_descriptors().empty());
  });
}

TEST(InheritedDescriptors, AreNoneIfTheyAreAnotherProcesses) {
  in_child([] {
    make_descriptors();
    set("LISTEN_PID", std::to_string(::getppid()));
    EXPECT_TRUE(inherited_descriptors().empty());
  });
}

TEST(InheritedDescriptors, HaveTheirNamesAndAreNotInherited) {
  in_child([] {
    make_descriptors();
    EXPECT_EQ(inherited_descriptors().at(0).name, "unknown");
    set("LISTEN_FDNAMES", "commands:telemetry");
    const auto all = inherited_descriptors();
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].fd, 3);
    EXPECT_EQ(all[0].name, "commands");
    EXPECT_EQ(all[1].fd, 4);
    EXPECT_EQ(all[1].name, "telemetry");
    EXPECT_EQ(::fcntl(3, F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(::fcntl(4, F_GETFD), FD_CLOEXEC);
  });
}

TEST(InheritedDescriptors, AreAnErrorIfTheEnvironmentMakesNoSense) {
  in_child([] {
    make_descriptors();
    for (const char* bad : {"two", "", "-1", "2 ", "99999999999"}) {
      set("LISTEN_FDS", bad);
      EXPECT_EQ(error_of_call(), EINVAL) << bad;
    }
    set("LISTEN_FDS", "2");
    set("LISTEN_FDNAMES", "one");
    EXPECT_EQ(error_of_call(), EINVAL);
    set("LISTEN_FDNAMES", "one:two:three");
    EXPECT_EQ(error_of_call(), EINVAL);
    set("LISTEN_FDNAMES", "one:");
    EXPECT_EQ(error_of_call(), 0);
    ::close(4);
    EXPECT_EQ(error_of_call(), EBADF);
    set("LISTEN_PID", "me");
    EXPECT_EQ(error_of_call(), EINVAL);
    set("LISTEN_PID", std::to_string(::getpid()));
    set("LISTEN_FDS", "0");
    set("LISTEN_FDNAMES", "");
    EXPECT_TRUE(inherited_descriptors().empty());
  });
}

TEST(InheritedDescriptors, ServeAServer) {
  in_child([] {
    make_descriptors();
    OneClientServer server(
        {.listen = {.descriptors = {inherited_descriptors().at(0).fd}}});
    server.start(kPatience);
    auto [reader, writer] = open_connection("127.0.0.1", server.port());
    EXPECT_TRUE(server.wait_connected(kPatience));
    server.close();
    EXPECT_EQ(reader.read(1, kPatience), "");
  });
}

}  // namespace
}  // namespace tcpip

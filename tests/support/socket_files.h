// Files of Unix-domain sockets, for tests of servers that listen there.
#ifndef TESTS_SUPPORT_SOCKET_FILES_H_
#define TESTS_SUPPORT_SOCKET_FILES_H_

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>

#include "tcpip/unique_fd.h"

namespace tcpip_tests {

// A folder of the test's own with a short path: that of a socket has at most
// 108 bytes. The destructor removes it with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    if (::mkdtemp(path_.data()) == nullptr) {
      throw std::system_error(errno, std::generic_category(), "mkdtemp");
    }
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/tcpip.XXXXXX";
};

// A socket of this type that is bound to the path.
inline tcpip::UniqueFd bound_to(const std::string& path,
                                int type = SOCK_STREAM) {
  tcpip::UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  std::memcpy(un.sun_path, path.data(), path.size());
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&un), sizeof un) !=
      0) {
    throw std::system_error(errno, std::generic_category(), "bind " + path);
  }
  return fd;
}

// Leaves the file behind that a server leaves that was killed.
inline void leave_socket_file(const std::string& path) { bound_to(path); }

inline bool exists(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

// The inode number of the file, or 0.
inline ino_t inode_of(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_SOCKET_FILES_H_

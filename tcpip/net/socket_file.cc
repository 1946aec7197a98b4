#include "tcpip/net/socket_file.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "tcpip/base/descriptor.h"
#include "tcpip/net/socket_calls.h"
#include "tcpip/unique_fd.h"

namespace tcpip::internal {
namespace {

sockaddr_un raw_unix(const Address& address) noexcept {
  sockaddr_un un{};
  std::memcpy(&un, address.data(), std::min(sizeof un, address.size()));
  return un;
}

// True unless connecting to the file shows that no process has it bound. The
// socket is of another type than a server's: so it cannot get through to a
// server, which would see a client come and go, and it tells a server that has
// not called listen() yet from none.
bool is_bound(const Address& address) noexcept {
  const UniqueFd fd = adopt_descriptor(
      ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return !fd || ::connect(fd.get(), raw(address), raw_size(address)) == 0 ||
         errno != ECONNREFUSED;
}

}  // namespace

std::string path_of(const Address& address) {
  return address.family() == AddressFamily::kUnix &&
                 raw_unix(address).sun_path[0] != '\0'
             ? address.host()
             : std::string();
}

const char* remove_stale_file(const Address& address) noexcept {
  // With a NUL behind a path that fills sun_path.
  char path[sizeof(sockaddr_un::sun_path) + 1] = "";
  const sockaddr_un un = raw_unix(address);
  std::memcpy(path, un.sun_path, sizeof un.sun_path);
  if (path[0] == '\0') return "the name is in use";  // an abstract one
  struct stat file {};
  if (::lstat(path, &file) != 0) {
    return errno == ENOENT ? "" : "the file cannot be examined";
  }
  if (!S_ISSOCK(file.st_mode)) return "the file is not a socket";
  if (is_bound(address)) return "a process is listening there";
  struct stat again {};
  if (::lstat(path, &again) == 0 &&
      (again.st_dev != file.st_dev || again.st_ino != file.st_ino)) {
    return "another server has just begun to listen there";
  }
  if (::unlink(path) != 0 && errno != ENOENT) {
    return "the file of a server that has ended cannot be removed";
  }
  return "";
}

SocketFile::SocketFile(std::string path) noexcept : path_(std::move(path)) {}

void SocketFile::note_made() noexcept {
  struct stat file {};
  exists_ = ::lstat(path_.c_str(), &file) == 0;
  device_ = file.st_dev;
  inode_ = file.st_ino;
}

void SocketFile::remove() noexcept {
  if (!process_.is_here() || !std::exchange(exists_, false)) return;
  struct stat file {};
  if (::lstat(path_.c_str(), &file) == 0 && file.st_dev == device_ &&
      file.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
}

}  // namespace tcpip::internal

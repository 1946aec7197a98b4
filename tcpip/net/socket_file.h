// The files of listening Unix-domain sockets: which one may be replaced, and
// who removes it.
//
// A process that ends without closing its server leaves the file behind, and
// bind() refuses the path from then on. Nobody can connect to such a file. A
// file that a process still has bound, or that is no socket, is never touched.
//
// Threads: remove() and the destructor by one thread at a time; the functions
// from any thread.
#ifndef TCPIP_NET_SOCKET_FILE_H_
#define TCPIP_NET_SOCKET_FILE_H_

#include <sys/stat.h>

#include <string>

#include "tcpip/address.h"
#include "tcpip/process_mark.h"

namespace tcpip::internal {

// The path of a Unix-domain address; empty for an abstract name, and for all
// other addresses.
std::string path_of(const Address& address);

// Removes the file of a socket that no process has bound any more. Returns ""
// if there is no file now, else why it was left alone, for messages.
const char* remove_stale_file(const Address& address) noexcept;

// The file that a bind() of this process makes. The destructor removes it,
// unless another file has that path by then, or in a child that fork() has
// made.
class SocketFile {
 public:
  explicit SocketFile(std::string path) noexcept;
  ~SocketFile() { remove(); }
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;

  // To be called when bind() has made it. Until then there is nothing to
  // remove.
  void note_made() noexcept;
  void remove() noexcept;
  const std::string& path() const noexcept { return path_; }

 private:
  const ProcessMark process_;
  const std::string path_;
  bool exists_ = false;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace tcpip::internal

#endif  // TCPIP_NET_SOCKET_FILE_H_

#include "tests/support/two_hosts.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <stop_token>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/base/mutex.h"
#include "tests/support/wait_until.h"

namespace tcpip_tests {
namespace {

using tcpip::UniqueFd;
using Clock = std::chrono::steady_clock;

constexpr const char* kDevice = "cable";
// The addresses of documentation: names with both families prefer such an IPv6
// address to IPv4, as they do in a real network.
constexpr const char* kIpv4[] = {"10.77.0.1", "10.77.0.2"};
constexpr const char* kIpv6[] = {"2001:db8:77::1", "2001:db8:77::2"};
constexpr std::chrono::milliseconds kLongestQueue{400};

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void check(long result, const char* what) {
  if (result < 0) fail(what);
}

UniqueFd current_network() {
  UniqueFd fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  check(fd.get(), "/proc/thread-self/ns/net");
  return fd;
}

void enter(const UniqueFd& network) {
  check(::setns(network.get(), CLONE_NEWNET), "setns");
}

void set_flags(const char* device, short flags) {
  const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  request.ifr_flags = flags;
  check(::ioctl(any.get(), SIOCSIFFLAGS, &request), "SIOCSIFFLAGS");
}

// Sends one request to the kernel and returns its answer, an errno.
template <class Request>
int ask_kernel(int protocol, Request& request) {
  const UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  check(fd.get(), "netlink");
  check(::send(fd.get(), &request, request.header.nlmsg_len, 0), "netlink");
  struct {
    nlmsghdr header;
    nlmsgerr error;
    std::array<char, 1024> rest;
  } reply{};
  check(::recv(fd.get(), &reply, sizeof reply, 0), "netlink");
  if (reply.header.nlmsg_type != NLMSG_ERROR) return EPROTO;
  return -reply.error.error;
}

void add_address(int family, const char* address, unsigned char prefix) {
  struct {
    nlmsghdr header;
    ifaddrmsg message;
    rtattr attribute;
    std::array<unsigned char, 16> address;
  } request{};
  const unsigned size = family == AF_INET ? 4 : 16;
  request.header.nlmsg_len =
      static_cast<unsigned>(sizeof request - sizeof request.address + size);
  request.header.nlmsg_type = RTM_NEWADDR;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
  request.message.ifa_family = static_cast<unsigned char>(family);
  request.message.ifa_prefixlen = prefix;
  // No search for a double, which would take a second.
  request.message.ifa_flags = IFA_F_NODAD;
  request.message.ifa_index = ::if_nametoindex(kDevice);
  request.attribute.rta_type = IFA_LOCAL;
  request.attribute.rta_len =
      static_cast<unsigned short>(sizeof request.attribute + size);
  ::inet_pton(family, address, request.address.data());
  errno = ask_kernel(NETLINK_ROUTE, request);
  if (errno != 0) fail(std::string("address ") + address);
}

// The device of one host, on which the thread is.
UniqueFd make_device(int host) {
  UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd) {
    throw NotPermitted("/dev/net/tun cannot be opened: " +
                       std::generic_category().message(errno));
  }
  ifreq request{};
  std::strncpy(request.ifr_name, kDevice, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) {
    throw NotPermitted("no TAP device can be made: " +
                       std::generic_category().message(errno));
  }
  set_flags("lo", IFF_UP);
  set_flags(kDevice, IFF_UP);
  add_address(AF_INET, kIpv4[host], 24);
  add_address(AF_INET6, kIpv6[host], 64);
  return fd;
}

void make_network() {
  if (::unshare(CLONE_NEWNET) == 0) return;
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0) return;
  throw NotPermitted(
      "a private network needs root or user namespaces: unshare: " +
      std::generic_category().message(errno));
}

// --- Frames ---

using Frame = std::vector<unsigned char>;

unsigned number_at(const Frame& frame, std::size_t at) {
  return static_cast<unsigned>(frame[at] << 8 | frame[at + 1]);
}
void set_number(Frame& frame, std::size_t at, std::size_t value) {
  frame[at] = static_cast<unsigned char>(value >> 8);
  frame[at + 1] = static_cast<unsigned char>(value);
}

// What a frame is, as far as faults ask.
struct Packet {
  bool is_ipv6 = false;
  bool is_tcp = false;
  bool is_udp = false;
  std::size_t ip = ETH_HLEN;  // where its header begins
  std::size_t ip_size = 0;    // of the header
  std::size_t size = 0;       // of the packet, from `ip`
  unsigned flags = 0;         // of TCP
  std::size_t data = 0;       // the bytes that TCP carries

  std::size_t tcp() const { return ip + ip_size; }

  explicit Packet(const Frame& frame) {
    if (frame.size() < ip + 40) return;
    const unsigned type = number_at(frame, 12);
    unsigned protocol = 0;
    if (type == ETH_P_IP) {
      ip_size = static_cast<std::size_t>(frame[ip] & 15) * 4;
      size = number_at(frame, ip + 2);
      protocol = frame[ip + 9];
    } else if (type == ETH_P_IPV6) {
      is_ipv6 = true;
      ip_size = 40;
      size = ip_size + number_at(frame, ip + 4);
      protocol = frame[ip + 6];
    }
    is_udp = protocol == IPPROTO_UDP;
    is_tcp = protocol == IPPROTO_TCP && frame.size() >= tcp() + 20;
    if (!is_tcp) return;
    flags = frame[tcp() + 13];
    data =
        size - ip_size - static_cast<std::size_t>(frame[tcp() + 12] >> 4) * 4;
  }
};

unsigned sum_of(const Frame& frame, std::size_t from, std::size_t to) {
  unsigned sum = 0;
  for (std::size_t i = from; i + 1 < to; i += 2) sum += number_at(frame, i);
  return sum;
}
std::size_t checksum(unsigned sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

// Makes of a segment a reset that its receiver must believe: it has the
// sequence number that the receiver expects.
void turn_into_reset(Frame& frame, const Packet& packet) {
  constexpr std::size_t kTcpSize = 20;
  const std::size_t tcp = packet.tcp();
  frame.resize(tcp + kTcpSize);
  frame[tcp + 12] = kTcpSize / 4 << 4;
  frame[tcp + 13] = TH_RST | TH_ACK;
  set_number(frame, tcp + 16, 0);
  unsigned sum = IPPROTO_TCP + kTcpSize;
  if (packet.is_ipv6) {
    set_number(frame, packet.ip + 4, kTcpSize);
    sum += sum_of(frame, packet.ip + 8, packet.ip + 40);
  } else {
    set_number(frame, packet.ip + 2, packet.ip_size + kTcpSize);
    set_number(frame, packet.ip + 10, 0);
    set_number(frame, packet.ip + 10, checksum(sum_of(frame, packet.ip, tcp)));
    sum += sum_of(frame, packet.ip + 12, packet.ip + 20);
  }
  set_number(frame, tcp + 16, checksum(sum + sum_of(frame, tcp, frame.size())));
}

}  // namespace

// --- The cable ---

class TwoHosts::Cable {
 public:
  Cable(UniqueFd here, UniqueFd there)
      : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    ways_[0].from = here.get();
    ways_[0].to = there.get();
    ways_[1].from = there.get();
    ways_[1].to = here.get();
    ends_ = {std::move(here), std::move(there)};
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }
  ~Cable() {
    thread_.request_stop();
    const std::uint64_t one = 1;
    if (::write(wake_.get(), &one, sizeof one) < 0) std::abort();
  }
  Cable(const Cable&) = delete;
  Cable& operator=(const Cable&) = delete;

  void set(const CableFaults& to_there, const CableFaults& to_here) {
    const tcpip::internal::MutexLock lock(mutex_);
    faults_ = {to_there, to_here};
  }
  int hits() const { return hits_; }

 private:
  // One direction. For the cable's thread.
  struct Way {
    int from = -1;
    int to = -1;
    Clock::time_point free_at = {};  // when a slow cable has sent the last one
    std::multimap<Clock::time_point, Frame> under_way = {};
  };

  CableFaults faults(std::size_t way) const {
    const tcpip::internal::MutexLock lock(mutex_);
    return faults_[way];
  }

  void run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::array<pollfd, 3> fds{{{ways_[0].from, POLLIN, 0},
                                 {ways_[1].from, POLLIN, 0},
                                 {wake_.get(), POLLIN, 0}}};
      const std::optional<timespec> left = until_next();
      ::ppoll(fds.data(), fds.size(), left ? &*left : nullptr, nullptr);
      for (std::size_t i = 0; i < ways_.size(); ++i) {
        take(ways_[i], faults(i));
        deliver(ways_[i], faults(i).cut);
      }
    }
  }

  std::optional<timespec> until_next() const {
    std::optional<Clock::time_point> next;
    for (const Way& way : ways_) {
      if (way.under_way.empty()) continue;
      const auto due = way.under_way.begin()->first;
      next = std::min(next.value_or(due), due);
    }
    if (!next) return std::nullopt;
    const auto left =
        std::max<std::chrono::nanoseconds>(*next - Clock::now(), {});
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    return timespec{seconds.count(), (left - seconds).count()};
  }

  void take(Way& way, const CableFaults& faults) {
    for (int i = 0; i < 64; ++i) {
      Frame frame(2000);
      const ssize_t size = ::read(way.from, frame.data(), frame.size());
      if (size <= 0) return;
      frame.resize(static_cast<std::size_t>(size));
      if (!change(frame, faults)) {
        ++hits_;
        continue;
      }
      const auto now = Clock::now();
      auto due = now;
      if (faults.bytes_per_second > 0) {
        way.free_at = std::max(way.free_at, now);
        if (way.free_at - now > kLongestQueue) {
          ++hits_;
          continue;
        }
        way.free_at += std::chrono::nanoseconds(static_cast<std::int64_t>(
            1e9 * static_cast<double>(frame.size()) / faults.bytes_per_second));
        due = way.free_at;
      }
      due += faults.delay;
      if (faults.jitter.count() > 0) {
        due += std::chrono::duration_cast<Clock::duration>(faults.jitter *
                                                           random());
      }
      way.under_way.emplace(due, std::move(frame));
    }
  }

  // False if the frame is lost.
  bool change(Frame& frame, const CableFaults& faults) {
    if (faults.cut) return false;
    const Packet packet(frame);
    if (packet.is_udp) return !faults.lose_udp;
    if (!packet.is_tcp) return true;
    const bool is_lost =
        (faults.loss > 0 && random() < faults.loss) ||
        (faults.longest_packet > 0 && packet.size > faults.longest_packet) ||
        (faults.lose_syn && (packet.flags & TH_SYN) != 0) ||
        (faults.lose_fin_and_rst && (packet.flags & (TH_FIN | TH_RST)) != 0) ||
        (faults.lose_ipv6_tcp && packet.is_ipv6);
    if (is_lost) return false;
    if (faults.reset_data && packet.data > 0) {
      turn_into_reset(frame, packet);
      ++hits_;
    }
    return true;
  }

  void deliver(Way& way, bool cut) {
    const auto now = Clock::now();
    while (!way.under_way.empty() && way.under_way.begin()->first <= now) {
      const Frame& frame = way.under_way.begin()->second;
      // EIO: the device is down. Then the frame is lost, as it would be.
      if (cut || ::write(way.to, frame.data(), frame.size()) < 0) ++hits_;
      way.under_way.erase(way.under_way.begin());
    }
  }

  double random() {
    return std::uniform_real_distribution<double>(0, 1)(random_);
  }

  std::array<UniqueFd, 2> ends_;
  const UniqueFd wake_;
  std::array<Way, 2> ways_;
  std::mt19937_64 random_;  // the same in every run
  std::atomic<int> hits_{0};
  mutable tcpip::internal::Mutex mutex_;
  std::array<CableFaults, 2> faults_ TCPIP_GUARDED_BY(mutex_);
  std::jthread thread_;  // the last: it uses the others
};

// --- The hosts ---

TwoHosts::Visit::Visit(const TwoHosts& hosts) : hosts_(hosts) {
  enter(hosts_.there_);
}
TwoHosts::Visit::~Visit() {
  if (::setns(hosts_.here_.get(), CLONE_NEWNET) != 0) std::abort();
}

TwoHosts::TwoHosts() : outside_(current_network()) {
  try {
    make_network();
    there_ = current_network();
    UniqueFd device_there = make_device(1);
    make_network();
    here_ = current_network();
    UniqueFd device_here = make_device(0);
    cable_ = std::make_unique<Cable>(std::move(device_here),
                                     std::move(device_there));
    meet();
  } catch (...) {
    leave();
    throw;
  }
}

namespace {

const sockaddr* raw(const tcpip::Address& address) {
  return static_cast<const sockaddr*>(address.data());
}
socklen_t raw_size(const tcpip::Address& address) {
  return static_cast<socklen_t>(address.size());
}

UniqueFd stream_socket(const tcpip::Address& address) {
  UniqueFd fd(::socket(raw(address)->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  check(fd.get(), "socket");
  return fd;
}

}  // namespace

// The first packet to a device that has just been made may be lost, and the
// kernel tries again after a second: not in the time of a test. Now each host
// knows the other one's devices.
void TwoHosts::meet() const {
  for (const Transport transport : kTcpTransports) {
    // Nobody listens there.
    const tcpip::Address address = tcpip::resolve(there(transport), 9).front();
    const bool met = wait_until([&] {
      const UniqueFd fd = stream_socket(address);
      return ::connect(fd.get(), raw(address), raw_size(address)) != 0 &&
             errno == ECONNREFUSED;
    });
    if (!met) fail("the hosts do not hear each other");
  }
}

TwoHosts::~TwoHosts() {
  cable_.reset();
  leave();
}

// In a user namespace there is no way back; the host that is left is as good.
void TwoHosts::leave() noexcept { ::setns(outside_.get(), CLONE_NEWNET); }

std::string TwoHosts::here(Transport transport) {
  return transport == Transport::kIpv4 ? kIpv4[0] : kIpv6[0];
}
std::string TwoHosts::there(Transport transport) {
  return transport == Transport::kIpv4 ? kIpv4[1] : kIpv6[1];
}

PlainListener TwoHosts::listen_there(Transport transport) const {
  const Visit visit(*this);
  const tcpip::Address address = tcpip::resolve(there(transport), 0).front();
  PlainListener listener{stream_socket(address), 0};
  check(::bind(listener.fd.get(), raw(address), raw_size(address)), "bind");
  check(::listen(listener.fd.get(), 16), "listen");
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  check(::getsockname(listener.fd.get(), reinterpret_cast<sockaddr*>(&bound),
                      &size),
        "getsockname");
  listener.port = tcpip::Address(&bound, size).port();
  return listener;
}

UniqueFd TwoHosts::connect_from_there(Transport transport, int port) const {
  const Visit visit(*this);
  const tcpip::Address address = tcpip::resolve(here(transport), port).front();
  UniqueFd fd = stream_socket(address);
  check(::connect(fd.get(), raw(address), raw_size(address)), "connect");
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

void TwoHosts::set(const CableFaults& to_there, const CableFaults& to_here) {
  cable_->set(to_there, to_here);
}
int TwoHosts::hits() const { return cable_->hits(); }

void TwoHosts::take_device_down() { set_flags(kDevice, 0); }

void TwoHosts::forget_neighbour() {
  const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  arpreq request{};
  const tcpip::Address address =
      tcpip::resolve(there(Transport::kIpv4), 0).front();
  std::memcpy(&request.arp_pa, address.data(), sizeof(sockaddr_in));
  std::strncpy(request.arp_dev, kDevice, sizeof request.arp_dev - 1);
  check(::ioctl(any.get(), SIOCDARP, &request), "SIOCDARP");
}

// --- Files ---

FileInstead::FileInstead(std::string path, const std::string& text)
    : path_(std::move(path)) {
  std::string name = testing::TempDir() + "instead.XXXXXX";
  const UniqueFd file(::mkstemp(name.data()));
  check(file.get(), "mkstemp");
  check(::write(file.get(), text.data(), text.size()), "write");
  check(::fchmod(file.get(), 0644), "fchmod");
  const bool done =
      ::unshare(CLONE_NEWNS) == 0 &&
      ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
      ::mount(name.c_str(), path_.c_str(), nullptr, MS_BIND, nullptr) == 0;
  const int error = errno;
  ::unlink(name.c_str());
  if (!done) {
    throw NotPermitted(path_ + " cannot be replaced by a mount: " +
                       std::generic_category().message(error));
  }
}

FileInstead::~FileInstead() { ::umount2(path_.c_str(), MNT_DETACH); }

// --- Connections ---

int destroy_connection(int fd) {
  struct {
    nlmsghdr header;
    inet_diag_req_v2 message;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DESTROY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  sockaddr_storage local{};
  sockaddr_storage peer{};
  socklen_t size = sizeof local;
  check(::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &size),
        "getsockname");
  size = sizeof peer;
  check(::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size),
        "getpeername");
  request.message.sdiag_family = static_cast<unsigned char>(local.ss_family);
  request.message.sdiag_protocol = IPPROTO_TCP;
  request.message.idiag_states = ~0u;
  inet_diag_sockid& id = request.message.id;
  // The ports stand at the same place in both families.
  sockaddr_in in{};
  std::memcpy(&in, &local, sizeof in);
  id.idiag_sport = in.sin_port;
  std::memcpy(&in, &peer, sizeof in);
  id.idiag_dport = in.sin_port;
  const auto copy_host = [&](const sockaddr_storage& from, auto* to) {
    if (from.ss_family == AF_INET) {
      std::memcpy(&in, &from, sizeof in);
      std::memcpy(to, &in.sin_addr, sizeof in.sin_addr);
    } else {
      sockaddr_in6 in6{};
      std::memcpy(&in6, &from, sizeof in6);
      std::memcpy(to, &in6.sin6_addr, sizeof in6.sin6_addr);
    }
  };
  copy_host(local, id.idiag_src);
  copy_host(peer, id.idiag_dst);
  id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return ask_kernel(NETLINK_SOCK_DIAG, request);
}

bool vanish(UniqueFd fd) {
  const int on = 1;
  return ::setsockopt(fd.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) == 0;
}

}  // namespace tcpip_tests

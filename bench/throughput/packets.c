// Small UDP packets as fast as one processor sends them, many in one system call, so that what is measured is their way and
// not the program.
//   packets hold PORT             has a socket that takes them in; they are counted by the kernel, and never read
//   packets send ADDRESS PORT     sends until it is ended

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// Neither end outlives a bench that is killed.
#define MAX_SECONDS 60
#define PAYLOAD_BYTES 64
#define AT_ONCE 64

static int open_socket(void) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) err(1, "socket");
  return fd;
}

static struct sockaddr_in address_of(const char *text, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, text, &address.sin_addr) != 1) errx(1, "%s is no IPv4 address", text);
  return address;
}

static void hold(const char *port) {
  struct sockaddr_in address = address_of("0.0.0.0", port);
  if (bind(open_socket(), (struct sockaddr *)&address, sizeof address) != 0) err(1, "bind");
  for (;;) pause();
}

static void send_all(int fd) {
  char payload[PAYLOAD_BYTES] = {0};
  struct iovec vector = {.iov_base = payload, .iov_len = sizeof payload};
  struct mmsghdr messages[AT_ONCE];
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < AT_ONCE; i++) messages[i].msg_hdr = (struct msghdr){.msg_iov = &vector, .msg_iovlen = 1};
  for (;;)
    if (sendmmsg(fd, messages, AT_ONCE, 0) < 0 && errno != ENOBUFS) err(1, "sendmmsg");
}

int main(int argc, char **argv) {
  alarm(MAX_SECONDS);
  if (argc == 3 && strcmp(argv[1], "hold") == 0) hold(argv[2]);
  if (argc != 4 || strcmp(argv[1], "send") != 0) errx(2, "usage: packets hold PORT | send ADDRESS PORT");
  struct sockaddr_in address = address_of(argv[2], argv[3]);
  int fd = open_socket();
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) err(1, "connect");
  send_all(fd);
}

// nftables rules as text: what the tables of routers and of the host have in common. Only numbers, addresses and validated
// device names are interpolated. Pure.

import { formatSubnet, type Subnet } from '#model/ip.ts'

export const REPLY = 'ct state established,related '
/** For traffic to the router's or the host's own stack: no ICMP error, which could lower the MTU of a path to another host. */
export const ANSWER = 'ct state established '
/**
 * A packet that no connection explains is forwarded without translation: with a made-up ICMP error, a container would speak
 * about the host's own connections from its own address.
 */
export const INVALID = 'ct state invalid drop'

/** The router's two devices, inside its namespace. */
export const INSIDE = 'inside'
export const OUTSIDE = 'outside'

/**
 * Queries to the router's resolver, and its answers, are no connections: a container could fill the table with them.
 * @param to, from what matches them
 */
export function untracked({ to, from }: { readonly to: string; readonly from: string }): readonly string[] {
  return [
    ...chain('asked', 'filter hook prerouting priority raw;', [`${to}meta l4proto { tcp, udp } th dport 53 notrack`]),
    ...chain('answered', 'filter hook output priority raw;', [`${from}meta l4proto { tcp, udp } th sport 53 notrack`])
  ]
}

/** Ahead of other software's chains. Not essential: a drop is final in any order. */
export const PRIORITY = 'filter - 10'

/**
 * Replaces the table in one transaction. No chain has policy drop: a chain may be empty for a moment while it is replaced,
 * and would then drop traffic that both the old and the new rules accept.
 */
export function table(family: 'ip' | 'inet', name: string, lines: readonly string[]): string {
  return `${noTable(family, name)}table ${family} ${name} {\n${lines.join('\n')}\n}\n`
}

export function noTable(family: 'ip' | 'inet', name: string): string {
  return `add table ${family} ${name}\ndelete table ${family} ${name}\n`
}

export function chain(name: string, hook: string, rules: readonly string[]): readonly string[] {
  return [`  chain ${name} {`, `    type ${hook}`, ...rules.map(rule => `    ${rule}`), '  }']
}

export function addressSet(name: string, type: 'ipv4_addr' | 'ipv6_addr', subnets: readonly Subnet[]): string {
  return set(name, `${type}; flags interval; auto-merge`, subnets.map(formatSubnet))
}

export function deviceSet(name: string, devices: readonly string[]): string {
  return set(
    name,
    'ifname',
    devices.filter(isPlainName).map(device => `"${device}"`)
  )
}

export function set(name: string, type: string, members: readonly string[]): string {
  const elements = [...new Set(members)].sort().join(', ')
  return `  set ${name} { type ${type};${elements === '' ? '' : ` elements = { ${elements} };`} }`
}

/** Is the device name safe to interpolate? The kernel allows almost any byte, quotes included. */
export function isPlainName(name: string): boolean {
  return /^[A-Za-z0-9_.@:-]{1,15}$/.test(name)
}

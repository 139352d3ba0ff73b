// Questions for addresses that nobody noted, in this kernel: who is answered for, one question for each rule.

import t from 'tap'
import { icmp6, u32 } from '../../lab/packets/frames.ts'
import { TABLES } from './compare.ts'
import { withBench } from './run.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const [SOLICITATION, OWN, BRIDGED] = [135, 2, 5]
const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex')

/** The question of a container, in the family of the address (8 or 32 digits). */
function question(ifindex: number, asked: string): Buffer {
  const { mac, address = 0, address6 = '' } = TABLES.ports.get(ifindex) ?? { mac: '' }
  if (asked.length === 8) {
    const arp = [bytes(`0001080006040001${mac}`), u32(address), bytes(`000000000000${asked}`)]
    return Buffer.concat([bytes(`ffffffffffff${mac}0806`), ...arp])
  }
  const between = { from: bytes(address6), to: bytes(`ff0200000000000000000001ff${asked.slice(26)}`) }
  const discovery = icmp6(between, SOLICITATION, Buffer.concat([u32(0), bytes(`${asked}0101${mac}`)]))
  return Buffer.concat([bytes(`3333ff${asked.slice(26)}${mac}86dd`), discovery])
}

const six = (last: string): string => `fd0000010000000000000000${last}`
const alone = (last: string): string => `fd000003000000000000000a${last}`

/** compare.ts has the stations and the networks. */
const CASES: readonly (readonly [title: string, ifindex: number, asked: string, mac: string | null])[] = [
  ['an address that a MAC tells', OWN, '0a020002', '02070a020002'],
  ['one in no subnet, of which nothing is known but that it is told', OWN, '0a01ffff', '02070a01ffff'],
  ['one that is noted, too', OWN, '0a020003', '020000000009'],
  ['one whose station tells IPv6 alone', OWN, '0a020011', null],
  ['one whose station tells nothing', OWN, '0a020012', null],
  ['one without a station', OWN, '0a020005', null],
  ['one of a MAC with the octet of another network', OWN, '0a020013', null],
  ['one of a MAC of another kind', OWN, '0a020014', null],
  ['the first address of IPv6', OWN, six('00000000'), '02070a020000'],
  ['one within', OWN, six('00000004'), '02070a020004'],
  ['the last one', OWN, six('000000ff'), '02070a0200ff'],
  ['the one after it', OWN, six('00000100'), null],
  ['the one before the first', OWN, 'fd000000ffffffffffffffffffffffff', null],
  ['one that is noted, too, of IPv6', OWN, six('00000003'), '020000000003'],
  ['one whose station tells IPv4 alone', OWN, six('00000010'), null],
  ['one whose station tells IPv6 alone', OWN, six('00000011'), '02070a020011'],
  ['one whose station tells nothing, of IPv6', OWN, six('00000012'), null],
  ...[0, 9, 20].map(
    at =>
      [
        'a subnet that differs in one digit',
        OWN,
        six('00000004').replace(/./g, (d, i) => (i === at ? '7' : d)),
        null
      ] as const
  ),
  ['a network whose subnet nobody told: IPv4', 4, '0a020002', '02080a020002'],
  ['a network whose subnet nobody told: IPv6', 4, six('00000002').replace(/2$/, '4'), null],
  ['the last addresses of their 32 bits: the first', 10, alone('ffffff00'), '0207ffffff00'],
  ['the last one of all', 10, alone('ffffffff'), '0207ffffffff'],
  ['what would follow it', 10, alone('00000000'), null],
  ['the first of the next ones', 10, 'fd000003000000000000000b00000000', null],
  ['the one before', 10, alone('fffffeff'), null],
  ['one whose station tells IPv4 alone, which is not there', 10, alone('ffffff21'), null],
  ['of a container whose packets the bridge forwards', BRIDGED, '0a020002', null]
]

t.test('who asks for an address that a MAC tells is answered with that MAC, and nobody else is', { skip }, async t => {
  withBench(TABLES, bench => {
    for (const [title, ifindex, asked, mac] of CASES) {
      const sent = question(ifindex, asked)
      const { verdict, packet } = bench.run('from_container', sent, ifindex)
      const answered = packet.toString('hex', 6, 12)
      if (mac === null) t.same([verdict, packet.equals(sent)], ['next', true], title)
      else t.same([verdict, answered], ['redirect', mac], title)
      if (mac !== null) t.ok(packet.subarray(14).includes(bytes(mac)) && packet.includes(bytes(asked)), title)
    }
  })
})

import { readFileSync } from 'node:fs'
import t from 'tap'
import { parseVni } from '#model/ids.ts'
import { parseIp, parseSubnet, type Ip } from '#model/ip.ts'
import { parseMac, type Mac } from '#model/mac.ts'
import {
  BACKEND_BYTES,
  SERVICE_BYTES,
  SERVICE_MAC,
  serviceEntries,
  type ServiceEntries
} from '#overlay/plan/programs/service-entries.ts'
import { emptyTables, type TableSet } from '#overlay/plan/programs/tables.ts'
import { planPrograms, type ProgramOp } from '#overlay/plan/programs/plan-programs.ts'
import { SLOTS } from '#overlay/plan/services/maglev.ts'
import type { Protocol } from '#model/service.ts'
import type { DesiredBackend, DesiredService } from '#overlay/plan/services/service.ts'

const vni = parseVni(0xabcdef)
const HEADER = readFileSync(new URL('../../../../overlay/bpf/programs/services.h', import.meta.url), 'utf8')
const subnets = [parseSubnet('10.1.0.0/16'), parseSubnet('fd00:1::/64')]
const [mac, router] = [parseMac('02:8a:0b:0c:0d:fe'), parseMac('02:00:00:00:00:01')]
const hex = (text: unknown): string => Buffer.from(String(text), 'latin1').toString('hex')
const bytes = (text: string): string => text.replaceAll(' ', '')

function backend(last: number, port = 8_080): DesiredBackend {
  return { address: parseIp(`10.1.0.${last}`), port }
}

function service(address: string, backends: readonly DesiredBackend[], protocol: Protocol = 'tcp'): DesiredService {
  return { address: parseIp(address), ports: [{ protocol, port: 80, backends }], affinitySeconds: 0 }
}

const macOf = (address: Ip): Mac => (address === parseIp('192.0.2.1') ? router : mac)

function entries(services: readonly DesiredService[], find: (address: Ip) => Mac | undefined = macOf): ServiceEntries {
  return serviceEntries({ vni, services, subnets, macOf: find })
}

t.test('a port of a service has the bytes of its structs', async t => {
  const { services, backends, addresses, use } = entries([service('10.1.200.1', [backend(3)])])
  const key = 'efcdab00 00000000000000000000ffff0a01c801 0050 06'
  t.same(
    [...backends].map(([key, value]) => [hex(key), hex(value)]),
    [[bytes(`${key} 00`), bytes('00000000000000000000ffff0a010003 1f90 028a0b0c0dfe')]]
  )
  const [[at, value] = ['', '']] = services
  t.equal(hex(at), bytes(`${key} 00`))
  t.equal(String(value).length, SERVICE_BYTES)
  t.equal(hex(value).slice(0, 16), 'fd030000' + '00000000', '1,021 slots, of the first backend')
  t.same([addresses, use], [[parseIp('10.1.200.1')], 'inside'])
  t.equal(String([...backends.values()][0]).length, BACKEND_BYTES)
})

t.test('the MAC of services is that of services.h', async t => {
  const [, text = ''] = /SERVICE_MAC \{(.*)\}/.exec(HEADER) ?? []
  t.equal(text.replaceAll(', 0x', ':').replace('0x', ''), SERVICE_MAC)
})

t.test('a table of many backends has several parts, the first of which is written last', async t => {
  const many = Array.from({ length: 60 }, (_, i) => backend(2 + i))
  const { services, backends } = entries([service('10.1.200.1', many)])
  t.same(
    [...services.keys()].map(key => hex(key).slice(-2)),
    ['04', '03', '02', '01', '00']
  )
  for (const value of services.values()) t.equal(Buffer.from(String(value), 'latin1').readUInt16LE(0), SLOTS.many)
  t.same(
    [...backends.keys()].map(key => Number.parseInt(hex(key).slice(-2), 16)),
    [...many.keys()]
  )
})

t.test('a service without backends has a table without slots, so that its packets are dropped', async t => {
  const { services, backends } = entries([service('10.1.200.1', [])])
  t.equal(backends.size, 0)
  t.same([...services.values()].map(hex), ['00'.repeat(SERVICE_BYTES)])
  t.same(entries([]).use, 'none')
})

t.test('backends that cannot be reached are left out', async t => {
  const [near, other] = [backend(3), backend(4)]
  const { backends } = entries([service('10.1.200.1', [near, other, near])], address =>
    address === other.address ? undefined : mac
  )
  t.equal(backends.size, 1, 'an address that nobody has, and the same one twice')
  const six = { address: parseIp('fd00:1::3'), port: 8_080 }
  t.equal(entries([service('10.1.200.1', [six])]).backends.size, 0, 'another family')
  t.equal(
    entries([service('10.1.200.1', [backend(3), backend(3, 80)], 'sctp')]).backends.size,
    1,
    'another port of SCTP'
  )
})

t.test('an address outside of the subnets is asked for as nobody, and reached by the router', async t => {
  const { addresses, use } = entries([service('172.16.0.1', [backend(3)]), service('fd00:1::c801', [])])
  t.same([addresses, use], [[parseIp('fd00:1::c801')], 'beyond'])
  const outside = entries([service('10.1.200.1', [{ address: parseIp('192.0.2.1'), port: 6_443 }])])
  t.same(
    [...outside.backends.values()].map(value => hex(value).slice(-12)),
    [router.replaceAll(':', '')]
  )
})

t.test('affinity is a mark of the table', async t => {
  const [one, other] = [0, 60].map(affinitySeconds =>
    entries([{ ...service('10.1.200.1', [backend(3)]), affinitySeconds }])
  )
  const marks = [one, other].map(found => hex([...(found?.services.values() ?? [])][0]).slice(4, 8))
  t.same(marks, ['0000', '0100'])
})

function tablesOf(services: readonly DesiredService[]): TableSet {
  const { services: tables, backends } = entries(services)
  return { ...emptyTables(), services: tables, backends }
}

function change(before: readonly DesiredService[], after: readonly DesiredService[]): readonly ProgramOp[] {
  const [from, to] = [before, after].map(services => new Map([[vni, tablesOf(services)]]))
  return planPrograms(
    { tables: to ?? new Map(), places: new Map(), services: new Map() },
    { tables: from ?? new Map(), attached: new Map(), surplus: [] }
  )
}

t.test('a change of one backend rewrites the table of its service, and of no other one', async t => {
  const other = service('10.1.200.2', [backend(3), backend(4)])
  const before = service('10.1.200.1', [backend(3), backend(4), backend(5)])
  const after = service('10.1.200.1', [backend(3), backend(4)])
  const keysOf = (ops: readonly ProgramOp[]): unknown =>
    ops.map(op => {
      const keys = op.kind === 'entries-set' ? op.entries.keys : op.kind === 'entries-delete' ? op.keys : []
      return [op.kind, 'table' in op ? op.table : '', keys.map(key => hex(key).slice(-16))]
    })
  t.same(keysOf(change([before, other], [after, other])), [
    ['entries-set', 'services', ['0a01c80100500600']],
    ['entries-delete', 'backends', ['0a01c80100500602']]
  ])
  t.same(
    keysOf(change([after, other], [before, other])),
    [
      ['entries-set', 'backends', ['0a01c80100500602']],
      ['entries-set', 'services', ['0a01c80100500600']]
    ],
    'a backend is there before the table that leads to it'
  )
  t.same(change([before, other], [before, other]), [])
})

// The rooms' rules of ARCHITECTURE.md, held against every import and every use of the outside world in the code.

import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { importsOf, isPackage, parse, PRODUCT, root, sources, targetOf } from './imports.ts'

type Rule = {
  /** Folders that may be imported besides the room itself. */
  readonly rooms: readonly string[]
  /** Outside packages that this room owns. */
  readonly packages: readonly string[]
  /** A pure room: no node: builtin, no clock, no randomness, no process. A file whose header says "Pure." is held to the same. */
  readonly pure: boolean
}

const pure = (...rooms: string[]): Rule => ({ rooms, packages: [], pure: true })
const shell = (rooms: readonly string[], packages: readonly string[] = []): Rule => ({ rooms, packages, pure: false })

/** What every shell of the overlay builds on, and the parts that a driver puts together. */
const OVERLAY_FLOOR = [
  ...['overlay/netlink', 'overlay/plan', 'overlay/kernel'],
  ...['overlay/driver.ts', 'overlay/forwarding-part.ts', 'overlay/pass.ts']
]
const OVERLAY_PARTS = ['overlay/bpf', 'overlay/filter', 'overlay/shaping', 'overlay/gateway']
const CONSENSUS = ['src/model', 'src/raft', 'src/platform']

/** The rule of the longest matching folder applies. `src/main.ts` is a room by itself. */
const RULES: Readonly<Record<string, Rule>> = {
  'src/model': pure(),
  'src/raft': pure('src/model'),
  allocator: pure('src/model'),
  'overlay/netlink': pure('src/model'),
  'overlay/plan': pure('src/model', 'overlay/netlink'),
  overlay: shell(['src/model', 'overlay/plan']),
  'overlay/kernel': shell(['src/model', 'src/platform', 'overlay/netlink', 'overlay/plan']),
  'overlay/filter': shell(['src/model', 'src/platform', ...OVERLAY_FLOOR]),
  'overlay/bpf': shell(['src/model', 'src/platform', ...OVERLAY_FLOOR]),
  'overlay/shaping': shell(['src/model', 'src/platform', ...OVERLAY_FLOOR]),
  'overlay/gateway': shell(['src/model', 'src/platform', ...OVERLAY_FLOOR, 'overlay/filter', 'overlay/shaping']),
  'overlay/linux': shell(['src/model', 'src/platform', ...OVERLAY_FLOOR, ...OVERLAY_PARTS]),
  'overlay/ovs': shell(['src/model', 'src/platform', ...OVERLAY_FLOOR, ...OVERLAY_PARTS, 'overlay/linux']),
  'membership/view': pure('src/model'),
  'membership/serf': shell(['src/model', 'src/platform', 'membership/view']),
  'src/platform': shell(['src/model', 'package.json'], ['execa', 'koffi', 'msgpackr', 'pino']),
  'src/config': shell(['src/model', 'src/platform'], ['zod', 'yaml']),
  'src/dns': shell(['src/model', 'src/platform'], ['dns-packet']),
  'src/replication': shell(CONSENSUS),
  'src/replication/codec': shell(CONSENSUS),
  'src/replication/transport': shell(
    [...CONSENSUS, 'src/replication/codec'],
    ['libp2p', '@libp2p/', '@chainsafe/libp2p-gossipsub', '@multiformats/multiaddr']
  ),
  'src/replication/storage': shell([...CONSENSUS, 'src/replication/codec']),
  'src/replication/feed': shell([
    ...CONSENSUS,
    'src/replication/codec',
    'src/replication/storage',
    'src/replication/transport'
  ]),
  'src/replication/consensus': shell([...CONSENSUS, 'src/replication']),
  'src/replication/cluster': shell([...CONSENSUS, 'src/replication']),
  'src/cni': { rooms: ['src/model'], packages: ['zod'], pure: true },
  'src/api': shell(['src/model', 'src/platform', 'src/cni'], ['fastify', 'zod']),
  'src/zmq': shell(['src/model', 'src/platform'], ['zeromq']),
  'src/metrics': shell(['src/model', 'src/platform'], ['prom-client']),
  'src/cli': shell(['src/model', 'src/platform', 'src/config'], ['commander', 'yaml']),
  'src/backup': shell(['src/model', 'src/platform', 'src/replication', 'allocator']),
  'src/agent': shell([
    'src/model',
    'src/raft',
    'src/replication',
    'src/backup',
    'src/platform',
    'src/config',
    'src/dns',
    'src/api',
    'src/zmq',
    'src/metrics',
    'allocator',
    'membership',
    'overlay'
  ]),
  'src/main.ts': shell(['src/model', 'src/cli', 'src/agent', 'src/backup', 'src/config', 'src/platform'])
}

/** Names that reach the clock, randomness or the process without an import. */
const IMPURE = /\b(Date|performance|setTimeout|setInterval|setImmediate|process|console|crypto|fetch|Math\.random)\b/

const files = PRODUCT.flatMap(sources)

t.test('every source file belongs to a room that has a rule', t => {
  t.ok(files.length > 40, `${files.length} files are looked at`)
  t.same(
    files.filter(file => ruleOf(file) === undefined),
    []
  )
  t.end()
})

t.test('a room imports only the rooms and the packages that its rule names', t => {
  t.same(
    files.flatMap(file => importsOf(file).flatMap(specifier => offence(file, specifier) ?? [])),
    []
  )
  t.end()
})

t.test('a pure room knows no clock, no randomness, no process and no I/O', t => {
  const pureFiles = files.filter(isPure)
  t.ok(pureFiles.length > 100, `${pureFiles.length} files are pure`)
  const offences = pureFiles.flatMap(file => [
    ...identifiersOf(file)
      .filter(name => IMPURE.test(name))
      .map(name => `${file}: ${name}`),
    ...importsOf(file, 'values')
      .filter(
        specifier => specifier.startsWith('node:') || (!isPackage(specifier) && !isPure(targetOf(file, specifier)))
      )
      .map(specifier => `${file} imports ${specifier}`)
  ])
  t.same(offences, [])
  t.end()
})

t.test('folders import each other in one direction only', t => {
  const graph = new Map<string, Set<string>>()
  for (const file of files) {
    const from = dirname(file)
    for (const specifier of importsOf(file).filter(name => !isPackage(name) && !name.startsWith('node:'))) {
      const to = dirname(targetOf(file, specifier))
      if (to !== from) graph.set(from, (graph.get(from) ?? new Set()).add(to))
    }
  }
  t.ok(graph.size > 30, `${graph.size} folders import others`)
  t.same(circles(graph), [])
  t.same(
    circles(
      new Map([
        ['a', new Set(['b'])],
        ['b', new Set(['c'])],
        ['c', new Set(['a'])]
      ])
    ),
    [['a', 'b', 'c']]
  )
  t.end()
})

t.test('the rules notice what they forbid', t => {
  t.match(offence('src/raft/step.ts', '#platform/clock.ts'), /src\/platform/)
  t.match(offence('allocator/pool.ts', 'node:fs'), /node:fs/)
  t.match(offence('src/api/server.ts', 'execa'), /execa/)
  t.match(offence('overlay/linux/driver.ts', '#membership/view/view.ts'), /membership/)
  t.equal(offence('src/agent/agent.ts', '#overlay/driver.ts'), undefined)
  t.end()
})

t.test('every package import alias of the rooms is used by its room alone', t => {
  const owners = new Map<string, Set<string>>()
  for (const file of files) {
    for (const specifier of importsOf(file).filter(isPackage)) {
      const owner = owners.get(specifier) ?? new Set()
      owners.set(specifier, owner.add(roomOf(file) ?? file))
    }
  }
  // zod is a schema language, yaml a format: both doors may use them.
  const shared = [...owners].filter(([name, rooms]) => rooms.size > 1 && name !== 'zod' && name !== 'yaml')
  t.same(
    shared.map(([name, rooms]) => `${name}: ${[...rooms].join(', ')}`),
    []
  )
  t.end()
})

function offence(file: string, specifier: string): string | undefined {
  const rule = ruleOf(file)
  if (rule === undefined) return `${file}: no rule`
  if (specifier.startsWith('node:')) return rule.pure ? `${file} imports ${specifier}` : undefined
  if (isPackage(specifier)) {
    const owned = rule.packages.some(name => specifier === name || specifier.startsWith(name))
    return owned ? undefined : `${file} imports ${specifier}, which another room owns`
  }
  const target = targetOf(file, specifier)
  const allowed = [roomOf(file) ?? '', ...rule.rooms].some(room => target === room || target.startsWith(`${room}/`))
  return allowed ? undefined : `${file} imports ${target}`
}

/** Strongly connected folders: Tarjan's algorithm, each circle and all of them sorted. */
function circles(graph: ReadonlyMap<string, ReadonlySet<string>>): string[][] {
  const found: string[][] = []
  const order = new Map<string, number>()
  const low = new Map<string, number>()
  const stack: string[] = []
  const visit = (node: string): number => {
    const mine = order.size
    order.set(node, mine)
    low.set(node, mine)
    stack.push(node)
    for (const next of graph.get(node) ?? []) {
      const reached = order.has(next) ? (stack.includes(next) ? order.get(next) : undefined) : visit(next)
      if (reached !== undefined) low.set(node, Math.min(low.get(node) ?? mine, reached))
    }
    const lowest = low.get(node) ?? mine
    if (lowest === mine) {
      const circle = stack.splice(stack.indexOf(node)).sort()
      if (circle.length > 1) found.push(circle)
    }
    return lowest
  }
  for (const node of graph.keys()) if (!order.has(node)) visit(node)
  return found.sort()
}

/** By the rule of its room, or because its header says so. */
function isPure(file: string): boolean {
  if (ruleOf(file)?.pure === true) return true
  if (!file.endsWith('.ts')) return false
  const header = /^(\/\/.*\n)*/.exec(readFileSync(join(root, file), 'utf8'))?.[0] ?? ''
  return /\bPure\./.test(header)
}

function roomOf(file: string): string | undefined {
  return Object.keys(RULES)
    .filter(place => file === place || file.startsWith(`${place}/`))
    .sort((a, b) => b.length - a.length)[0]
}

function ruleOf(file: string): Rule | undefined {
  const room = roomOf(file)
  return room === undefined ? undefined : RULES[room]
}

/** Identifiers that are not property names or declarations: what the code reaches for; and `Math.random`. */
function identifiersOf(file: string): string[] {
  const found: string[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isPropertyAccessExpression(node)) {
      if (node.getText() === 'Math.random') found.push('Math.random')
      visit(node.expression)
      return
    }
    if (ts.isPropertyAssignment(node)) {
      visit(node.initializer)
      return
    }
    if (ts.isIdentifier(node) && !ts.isPropertySignature(node.parent)) found.push(node.text)
    ts.forEachChild(node, visit)
  }
  visit(parse(file))
  return found
}

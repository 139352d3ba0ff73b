// The rooms' rules of ARCHITECTURE.md, held against every import and every use of the outside world in the code.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import t from 'tap'
import ts from 'typescript'

const root = resolve(import.meta.dirname, '../..')

type Rule = {
  /** Folders that may be imported besides the room itself. */
  readonly rooms: readonly string[]
  /** Outside packages that this room owns. */
  readonly packages: readonly string[]
  /** A pure room: no node: builtin, no clock, no randomness, no process. */
  readonly pure: boolean
}

const pure = (...rooms: string[]): Rule => ({ rooms, packages: [], pure: true })
const shell = (rooms: readonly string[], packages: readonly string[] = []): Rule => ({ rooms, packages, pure: false })

/** The longest matching folder or file decides. */
const RULES: Readonly<Record<string, Rule>> = {
  'src/model': pure(),
  'src/raft': pure('src/model'),
  allocator: pure('src/model'),
  'overlay/plan': pure('src/model', 'overlay/shaping/plan.ts', 'overlay/shaping/queue.ts'),
  'overlay/shaping': shell(['src/model', 'src/platform', 'overlay']),
  'overlay/shaping/plan.ts': pure('src/model', 'overlay/netlink', 'overlay/shaping'),
  'overlay/shaping/queue.ts': pure('src/model', 'overlay/netlink'),
  'overlay/gateway': shell(['src/model', 'src/platform', 'overlay']),
  'overlay/gateway/facts.ts': pure('src/model', 'overlay/plan'),
  'overlay/gateway/host-access.ts': pure('src/model', 'overlay/plan'),
  'overlay/gateway/plan.ts': pure(
    'src/model',
    'overlay/plan',
    'overlay/gateway/facts.ts',
    'overlay/gateway/host-access.ts',
    'overlay/gateway/rules.ts'
  ),
  'overlay/gateway/rules.ts': pure('src/model', 'overlay/plan'),
  'overlay/netlink': shell(['src/model', 'overlay/plan']),
  'overlay/filter': pure('src/model', 'overlay/plan'),
  'overlay/filter/guard.ts': shell(['src/model', 'src/platform', 'overlay']),
  'overlay/filter/nft.ts': shell(['src/model', 'src/platform', 'overlay/filter']),
  'overlay/filter/try-tables.ts': shell(['src/model', 'src/platform', 'overlay/filter']),
  'overlay/linux': shell(['src/model', 'src/platform', 'overlay']),
  'overlay/ovs': shell(['src/model', 'src/platform', 'overlay']),
  'overlay/ovs/flow.ts': pure('src/model', 'overlay/plan'),
  'overlay/ovs/pipeline.ts': pure('src/model', 'overlay/plan'),
  'overlay/ovs/plan.ts': pure('src/model', 'overlay/plan', 'overlay/ovs/flow.ts', 'overlay/ovs/pipeline.ts'),
  'overlay/driver.ts': shell(['src/model', 'overlay/plan', 'overlay/filter', 'overlay/shaping']),
  'membership/view': pure('src/model'),
  'membership/serf': shell(['src/model', 'src/platform', 'membership/view']),
  'src/platform': shell(['src/model'], ['execa', 'koffi', 'msgpackr', 'pino']),
  'src/platform/version.ts': shell(['package.json']),
  'src/config': shell(['src/model', 'src/platform'], ['zod', 'yaml']),
  'src/replication': shell(
    ['src/model', 'src/raft', 'src/platform'],
    ['libp2p', '@libp2p/', '@chainsafe/libp2p-gossipsub', '@multiformats/multiaddr']
  ),
  'src/replication/feed-order.ts': pure('src/model', 'src/raft'),
  'src/replication/frame.ts': pure('src/model'),
  'src/replication/outbox.ts': pure('src/model', 'src/raft'),
  'src/cni': { rooms: ['src/model'], packages: ['zod'], pure: true },
  'src/api': shell(['src/model', 'src/platform', 'src/cni'], ['fastify', 'zod']),
  'src/zmq': shell(['src/model', 'src/platform', 'src/api/agent-port.ts'], ['zeromq']),
  'src/metrics': shell(['src/model', 'src/platform'], ['prom-client']),
  'src/metrics/figures.ts': pure('src/model'),
  'src/metrics/families.ts': pure('src/metrics/figures.ts'),
  'src/cli': shell(['src/model', 'src/platform', 'src/config'], ['commander', 'yaml']),
  'src/agent': shell([
    'src/model',
    'src/raft',
    'src/replication',
    'src/platform',
    'src/config',
    'src/api',
    'src/zmq',
    'src/metrics',
    'allocator',
    'membership',
    'overlay'
  ]),
  'src/main.ts': shell(['src/model', 'src/cli', 'src/agent', 'src/config', 'src/platform'])
}

/** Names that reach the clock, randomness or the process without an import. */
const IMPURE = /\b(Date|performance|setTimeout|setInterval|setImmediate|process|console|crypto|fetch|Math\.random)\b/

const files = ['src', 'allocator', 'membership', 'overlay'].flatMap(folder => sources(join(root, folder)))

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
  const offences = files
    .filter(file => ruleOf(file)?.pure === true)
    .flatMap(file =>
      identifiersOf(file)
        .filter(name => IMPURE.test(name))
        .map(name => `${file}: ${name}`)
    )
  t.same(offences, [])
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

function isPackage(specifier: string): boolean {
  return !specifier.startsWith('.') && !specifier.startsWith('#') && !specifier.startsWith('node:')
}

/** The imported file, relative to the checkout. */
function targetOf(file: string, specifier: string): string {
  if (specifier.startsWith('.')) return relative(root, resolve(root, dirname(file), specifier))
  const [room = '', ...rest] = specifier.slice(1).split('/')
  const folder = ['membership', 'overlay', 'allocator', 'test'].includes(room) ? room : `src/${room}`
  return [folder, ...rest].join('/')
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

function sources(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts'))
    .map(name => relative(root, join(folder, name)))
}

function parse(file: string): ts.SourceFile {
  return ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.Latest, true)
}

/** Static and dynamic imports; type-only ones too, for a type is a dependency of the mind. */
function importsOf(file: string): string[] {
  const found: string[] = []
  const visit = (node: ts.Node): void => {
    if (
      (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) &&
      node.moduleSpecifier !== undefined &&
      ts.isStringLiteral(node.moduleSpecifier)
    ) {
      found.push(node.moduleSpecifier.text)
    }
    const argument =
      ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword && node.arguments[0]
    if (argument !== undefined && argument !== false && ts.isStringLiteral(argument)) found.push(argument.text)
    ts.forEachChild(node, visit)
  }
  visit(parse(file))
  return found
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

import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { networkNameOf } from '#allocator/apply-namespace.ts'
import { digestOf } from '#allocator/digest.ts'
import { getKv, listKv } from '#allocator/kv-view.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { RULES } from '#model/command.ts'
import { parseNamespaceName, parseNetworkName } from '#model/ids.ts'
import { formatSubnet } from '#model/ip.ts'
import { parseCommand } from '#model/parse-request.ts'
import { attach, brief, Caller, create, map, open, remove, unmap } from './fixtures.ts'

/** Network red, green and blue. */
function ready(): Caller {
  const caller = Caller.ready()
  caller.do(create('green', { subnet: '10.2.0.0/24' }))
  caller.do(create('blue', { subnet: '10.64.1.0/24' }))
  return caller
}

function row(caller: Caller, name: string): unknown {
  return caller.state.namespace(parseNamespaceName(name))
}

t.test('a mapping is replaced as a whole, and can be removed once', t => {
  const caller = ready()
  t.match(caller.do(map('shop', 'red', 'green')), { kind: 'namespace', namespace: { name: 'shop', network: 'red' } })
  t.same(row(caller, 'shop'), { name: 'shop', network: 'red', grants: ['green'] })
  caller.do(map('shop', 'blue'))
  t.same(row(caller, 'shop'), { name: 'shop', network: 'blue', grants: [] })
  t.equal(brief(caller.try(unmap('shop'))), 'ok')
  t.equal(row(caller, 'shop'), undefined)
  t.equal(brief(caller.try(unmap('shop'))), 'ERR_NAMESPACE_NOT_FOUND namespace')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a namespace can only be mapped to existing networks', t => {
  const caller = ready()
  t.equal(brief(caller.try(map('shop', 'nowhere'))), 'ERR_NETWORK_NOT_FOUND network')
  t.equal(brief(caller.try(map('shop', 'red', 'nowhere'))), 'ERR_NETWORK_NOT_FOUND network')
  t.equal(row(caller, 'shop'), undefined)
  t.end()
})

t.test('a mapped network is deleted only by force, which removes it from all mappings and grants', t => {
  const caller = ready()
  caller.do(map('shop', 'red', 'green'))
  caller.do(map('bank', 'green', 'blue'))
  for (const name of ['red', 'green', 'blue']) {
    t.equal(brief(caller.try(remove(name))), 'ERR_NETWORK_IN_USE name', name)
  }
  caller.do(remove('green', true))
  t.same(row(caller, 'shop'), { name: 'shop', network: 'red', grants: [] })
  t.equal(row(caller, 'bank'), undefined)
  t.equal(brief(caller.try(remove('blue'))), 'ok')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a namespace opens a network with the first free subnet of the range, once', t => {
  const caller = ready()
  const subnets = ['one', 'two', 'three'].map(name => {
    const result = caller.do(open(name))
    if (result.kind !== 'network') throw new Error(result.kind)
    t.equal(result.network.name, `ns-${name}`)
    t.equal(result.network.hostAccess, true)
    return formatSubnet(result.network.subnet)
  })
  t.same(subnets, ['10.64.0.0/24', '10.64.2.0/24', '10.64.3.0/24'], 'blue has 10.64.1.0/24')
  const { networkCount } = caller.state
  t.match(caller.do(open('two')), { network: { name: 'ns-two' } })
  t.equal(caller.state.networkCount, networkCount)
  t.equal(brief(caller.try(open('four'))), 'ERR_SUBNET_EXHAUSTED namespace')
  t.equal(row(caller, 'four'), undefined)
  t.same(verify(caller.state), [])
  t.end()
})

t.test('no chosen subnet overlaps an existing one, whatever its size', t => {
  for (const [taken, first] of [
    ['10.64.0.0/30', '10.64.1.0/24'],
    ['10.64.0.64/26', '10.64.1.0/24'],
    ['10.64.0.0/23', '10.64.2.0/24'],
    ['10.0.0.0/8', null],
    ['10.64.3.0/24', '10.64.0.0/24'],
    ['10.65.0.0/16', '10.64.0.0/24']
  ] as const) {
    const caller = Caller.ready()
    caller.do(create('other', { subnet: taken }))
    const outcome = caller.try(open('shop'))
    const subnet = outcome.ok && outcome.result.kind === 'network' ? formatSubnet(outcome.result.network.subnet) : null
    t.equal(subnet, first, taken)
  }
  t.end()
})

t.test('opening a mapped namespace returns its network and creates none', t => {
  const caller = ready()
  caller.do(map('shop', 'red'))
  t.match(caller.do(open('shop')), { kind: 'network', network: { name: 'red' } })
  t.equal(caller.state.networkCount, 3)
  t.end()
})

t.test('a foreign network of that name is refused; one created for the namespace is reused', t => {
  const caller = ready()
  caller.do(create('ns-shop', { subnet: '10.9.0.0/24' }))
  t.equal(brief(caller.try(open('shop'))), 'ERR_NETWORK_EXISTS name')
  t.equal(row(caller, 'shop'), undefined)
  caller.do(open('bank'))
  caller.do(unmap('bank'))
  t.match(caller.do(open('bank')), { network: { name: 'ns-bank' } })
  t.match(row(caller, 'bank'), { network: 'ns-bank' })
  t.end()
})

t.test('namespaces with the longest names get distinct networks', t => {
  const names = ['a', 'b'].map(end => parseNamespaceName(`${'n'.repeat(62)}${end}`))
  const networks = names.map(networkNameOf)
  for (const name of networks) t.equal(parseNetworkName(name).length, 63)
  t.equal(new Set(networks).size, 2)
  t.equal(networkNameOf(parseNamespaceName('n'.repeat(60))), `ns-${'n'.repeat(60)}`)
  t.end()
})

t.test('mappings are in snapshots, digests and the key-value view', t => {
  const [caller, other] = [ready(), ready()]
  for (const one of [caller, other]) one.do(attach('red', 'c1'))
  caller.do(map('shop', 'red', 'green'))
  caller.do(map('bank', 'blue'))
  other.do(map('bank', 'blue'))
  other.do(map('shop', 'red', 'blue'))
  t.not(digestOf(caller.state), digestOf(other.state))
  const restored = decodeState(JSON.parse(JSON.stringify(encodeState(caller.state))))
  t.equal(digestOf(restored), digestOf(caller.state))
  t.same(verify(restored), [])
  t.same(getKv(restored, 'namespace/shop'), { name: 'shop', network: 'red', grants: ['green'] })
  t.same(
    listKv(restored, { prefix: 'namespace/' }).map(({ key }) => key),
    ['namespace/bank', 'namespace/shop']
  )
  t.end()
})

t.test('a snapshot that maps a namespace to an unknown network is refused', t => {
  const caller = ready()
  caller.do(map('shop', 'red'))
  const plain = encodeState(caller.state)
  for (const namespaces of [
    [{ name: 'shop', network: 'nowhere', grants: [] }],
    [{ name: 'shop', network: 'red', grants: ['nowhere'] }],
    [{ name: 'Shop', network: 'red', grants: [] }],
    [...plain.namespaces, ...plain.namespaces]
  ]) {
    t.throws(() => decodeState({ ...plain, namespaces }), { code: 'ERR_STORAGE' })
  }
  t.end()
})

t.test('commands from other hosts are validated', t => {
  const mapped = { kind: 'namespace-map', namespace: 'shop', network: 'red', grants: ['green', 'blue', 'green', 'red'] }
  t.match(parseCommand(mapped), { grants: ['blue', 'green'] })
  const opened = {
    kind: 'namespace-open',
    namespace: 'shop',
    range: { base: 0x0a400000, prefixLength: 10 },
    prefixLength: 24
  }
  t.match(parseCommand(opened), { prefixLength: 24 })
  for (const [command, field] of [
    [{ ...mapped, namespace: 'Shop' }, 'namespace'],
    [{ ...mapped, network: '' }, 'network'],
    [{ ...mapped, grants: 'green' }, 'grants'],
    [{ ...mapped, grants: [7] }, 'grants'],
    [{ ...mapped, grants: Array.from({ length: 65 }, (_, n) => `n${n}`) }, 'grants'],
    [{ ...opened, prefixLength: 9 }, 'prefixLength'],
    [{ ...opened, prefixLength: 27 }, 'prefixLength'],
    [{ ...opened, range: { base: 0x0a400001, prefixLength: 10 } }, 'subnet'],
    [{ kind: 'namespace-unmap' }, 'namespace']
  ] as const) {
    t.throws(() => parseCommand(command), { code: 'ERR_INVALID', field }, JSON.stringify(command))
  }
  t.end()
})

t.test('a refusal names the first namespace by name, so that a restored replica answers the same', t => {
  const caller = ready()
  caller.rules = RULES
  for (const namespace of ['web', 'shop', 'api']) caller.do(map(namespace, 'green'))
  const restored = new Caller(decodeState(encodeState(caller.state)), 's2')
  restored.rules = RULES
  for (const each of [caller, restored]) {
    const outcome = each.try(remove('green'))
    t.match(outcome, { ok: false, error: { code: 'ERR_NETWORK_IN_USE', message: /namespace api is mapped/ } })
  }
  t.end()
})

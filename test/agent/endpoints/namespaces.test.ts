import t from 'tap'
import { parseNamespaceName, parseNetworkName } from '#model/ids.ts'
import { VxmeshError } from '#model/errors.ts'
import { create, map } from '#test/allocator/fixtures.ts'
import { MemoryHost } from '../memory-host.ts'

const SHOP = parseNamespaceName('shop')
const [RED, GREEN, BLUE] = [parseNetworkName('red'), parseNetworkName('green'), parseNetworkName('blue')]

/** Namespace shop is mapped to red, and green is granted to it; blue is not. */
function mapped(): MemoryHost {
  const host = new MemoryHost()
  host.caller.do(create('green', { subnet: '10.2.0.0/24' }))
  host.caller.do(create('blue', { subnet: '10.3.0.0/24' }))
  host.caller.do(map('shop', 'red', 'green'))
  return host
}

t.test('a pod goes to its namespace’s network, or to a granted one that it names', async t => {
  const { api } = mapped()
  t.equal(await api.namespaceNetwork(SHOP), 'red')
  t.equal(await api.namespaceNetwork(SHOP, RED), 'red')
  t.equal(await api.namespaceNetwork(SHOP, GREEN), 'green')
})

t.test('a network that is not granted is refused, with the command that grants it', async t => {
  const { api } = mapped()
  await t.rejects(api.namespaceNetwork(SHOP, BLUE), {
    code: 'ERR_NOT_GRANTED',
    message: /vxmesh namespace map shop red --grant blue/
  })
})

t.test('a namespace that is not mapped is refused, and nothing is created', async t => {
  const host = mapped()
  await t.rejects(host.api.namespaceNetwork(parseNamespaceName('other')), {
    code: 'ERR_NAMESPACE_NOT_FOUND',
    message: /vxmesh namespace map other NETWORK/
  })
  t.equal(host.caller.state.networkCount, 3)
})

t.test('if the configuration says so, an unmapped namespace gets a network of its own, once', async t => {
  const host = mapped()
  host.namespaces = { unmapped: 'create', range: '10.128.0.0/16', prefixLength: 24 }
  const name = await host.api.namespaceNetwork(parseNamespaceName('other'))
  t.equal(await host.api.namespaceNetwork(parseNamespaceName('other')), name)
  t.match(host.caller.state.network(name), { subnet: { prefixLength: 24 } })
  t.equal(host.caller.state.networkCount, 4)
  await t.rejects(host.api.namespaceNetwork(parseNamespaceName('other'), BLUE), { code: 'ERR_NOT_GRANTED' })
  t.equal(await host.api.namespaceNetwork(SHOP), 'red', 'a mapped namespace stays where it is')
})

t.test('a network that cannot be created fails the pod', async t => {
  const host = mapped()
  host.namespaces = { unmapped: 'create', range: '10.128.0.0/24', prefixLength: 24 }
  await host.api.namespaceNetwork(parseNamespaceName('one'))
  await t.rejects(host.api.namespaceNetwork(parseNamespaceName('two')), VxmeshError)
  host.failProposal = () => new VxmeshError('ERR_NO_QUORUM', 'no leader')
  await t.rejects(host.api.namespaceNetwork(parseNamespaceName('three')), { code: 'ERR_NO_QUORUM' })
})

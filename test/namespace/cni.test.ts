// The plugin with real agents and namespaces: what pods reach, and what is left after them.

import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { EndpointView, NamespaceView } from '#model/views.ts'
import { buildPlugin, PLUGIN, type PluginRun } from '../cni/plugin.ts'
import { addPod, callFor, delPod, type Pod } from '../lab/cni-runtime.ts'
import type { LabHost } from '../lab/host.ts'
import { ipJson, kill } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'
import { startHolder } from '../lab/holder.ts'
import { cannotRun } from '../lab/requirements.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun()
const settings = { collectAfter: 1, namespaces: { unmapped: 'create', range: '10.64.0.0/16', prefixLength: 24 } }

/** A server and a client. */
async function twoHosts(): Promise<{ lab: Lab; h1: LabHost; h2: LabHost }> {
  await buildPlugin()
  const lab = await Lab.create()
  const [h1, h2] = await lab.addServerAndClient(settings)
  return { lab, h1, h2 }
}

async function endpoints(host: LabHost): Promise<EndpointView[]> {
  return (await host.api.call('GET', '/v1/endpoints')) as EndpointView[]
}

/** The host has no trace of an endpoint: no device of ours, no record. */
async function isClean(host: LabHost): Promise<boolean> {
  const links = (await ipJson(host.namespace, 'link', 'show')).map(({ ifname }) => String(ifname))
  return !links.some(name => /^v[bxe]/.test(name)) && (await readdir(join(host.dir, 'data/netns'))).length === 0
}

t.setTimeout(TEST_TIMEOUT_MS)

t.test('pods are in the networks of their namespaces and leave nothing behind', { skip }, async t => {
  const { lab, h1, h2 } = await twoHosts()
  t.teardown(() => lab.destroy())
  let made = 0
  const pod = async (facts: Omit<Pod, 'container'> = { namespace: 'shop' }): Promise<Pod> => {
    made += 1
    return { container: await lab.container(`p${made}`), ...facts }
  }

  await t.test('pods reach those of their own namespace across hosts, and no others', async t => {
    const [a, b, other] = [await pod(), await pod(), await pod({ namespace: 'bank' })]
    const [atA, atB, atOther] = [await addPod(h1, a), await addPod(h2, b), await addPod(h2, other)]
    t.match(atA.address, /^10\.64\.0\./)
    t.match(atOther.address, /^10\.64\.1\./, 'a subnet of its own')
    // h1 hears of the other pod only after the ADD on h2 has returned.
    await waitFor(
      'the other host’s pod is reached',
      async () => (await a.container.ping(atB.address, { count: 1, waitMs: 500 })).received === 1
    )
    t.equal((await a.container.ping(atB.address, { count: 3 })).received, 3)
    t.equal((await a.container.ping(atOther.address, { count: 2, waitMs: 300 })).received, 0)
    t.match(await h1.api.call('GET', '/v1/namespaces'), [
      { namespace: 'bank', network: 'ns-bank' },
      { namespace: 'shop', network: 'ns-shop' }
    ] satisfies Partial<NamespaceView>[])
    t.equal((await callFor(h1, 'CHECK', a, { prevResult: atA.result })).exitCode, 0)
    for (const [host, gone] of [
      [h1, a],
      [h2, b],
      [h2, other]
    ] as const)
      await delPod(host, gone)
    t.same(await endpoints(h1), [])
  })

  await t.test('CHECK notices what is missing inside the container', async t => {
    const p = await pod()
    const { address, result } = await addPod(h1, p)
    await p.container.exec('ip', 'addr', 'del', `${address}/24`, 'dev', 'eth0')
    t.match(await callFor(h1, 'CHECK', p, { prevResult: result }), {
      exitCode: 1,
      json: { code: 107, msg: /address/ }
    })
    // The agent would restore a deleted interface, perhaps before CHECK looks.
    await p.container.exec('ip', 'link', 'set', 'eth0', 'down')
    await p.container.exec('ip', 'link', 'set', 'eth0', 'name', 'away')
    t.match(await callFor(h1, 'CHECK', p, { prevResult: result }), {
      exitCode: 1,
      json: { code: 107, msg: /no eth0/ }
    })
    await delPod(h1, p)
  })

  await t.test('an interface name that the container already uses is refused without a trace', async t => {
    const p = await pod()
    await p.container.exec('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'x0')
    t.match(await callFor(h1, 'ADD', p), { exitCode: 1, json: { code: 106 } })
    t.same(await endpoints(h1), [])
    await p.container.remove()
  })

  await t.test('a path that is no network namespace is refused before an address is claimed', async t => {
    const p = await pod()
    for (const netns of ['/run/netns/no-such', '/etc/passwd', '/proc/self/ns/mnt']) {
      t.match(await callFor(h1, 'ADD', p, { netns }), { exitCode: 1, json: { code: 4, msg: /netns/ } }, netns)
    }
    t.same(await endpoints(h1), [])
  })

  await t.test('DEL succeeds twice, and without the namespace', async t => {
    const p = await pod()
    await addPod(h1, p)
    await p.container.remove()
    await delPod(h1, p)
    await delPod(h1, p)
    t.same(await endpoints(h1), [])
  })

  await t.test('an endpoint whose namespace is gone is released without DEL, also after a restart', async t => {
    const pods = [await pod(), await pod()]
    for (const p of pods) await addPod(h2, p)
    await pods[0]?.container.remove()
    await waitFor('the first is released', async () => (await endpoints(h1)).length === 1)
    await h2.killAgent()
    await pods[1]?.container.remove()
    await h2.startAgent()
    await h2.waitReady()
    await waitFor('the second is released', async () => (await endpoints(h1)).length === 0)
    t.ok(await waitFor('nothing is left', () => isClean(h2)))
  })

  await t.test('an endpoint whose namespace lives is never released, even if its path is gone', async t => {
    const byMount = await pod({ namespace: 'shop' })
    const byProcess = await pod({ namespace: 'shop' })
    const holders = [await startHolder(byMount.container.namespace), await startHolder(byProcess.container.namespace)]
    const [, second] = holders
    t.teardown(() => holders.forEach(({ pid }) => kill(pid)))
    await addPod(h2, byMount)
    const gateway = await startHolder(byProcess.container.namespace)
    const netns = `/proc/${gateway.pid}/ns/net`
    t.equal((await callFor(h2, 'ADD', byProcess, { netns })).exitCode, 0)
    // The mount and the process behind the path go; another process is still in the namespace.
    await byMount.container.remove()
    kill(gateway.pid)
    // The release of a witness proves that the collector has made another round.
    for (let round = 0; round < 2; round++) {
      const witness = await pod()
      await addPod(h2, witness)
      await witness.container.remove()
      await waitFor('the witness is released', async () => (await endpoints(h1)).length === 2)
    }
    t.same((await endpoints(h1)).map(e => e.containerId).sort(), [byMount, byProcess].map(p => p.container.name).sort())
    if (second !== undefined) kill(second.pid)
    await byProcess.container.remove()
    for (const { pid } of holders) kill(pid)
    await waitFor('both are released once they are gone', async () => (await endpoints(h1)).length === 0)
  })

  await t.test('GC releases nothing that lives', async t => {
    const [live, kept] = [await pod(), await pod()]
    for (const p of [live, kept]) await addPod(h1, p)
    const input = { 'cni.dev/valid-attachments': [] }
    const config = { cniVersion: '1.1.0', name: 'lab', type: 'vxmesh', socket: h1.socket, ...input }
    const { exitCode } = await run('sh', [
      '-c',
      'printf %s "$1" | CNI_COMMAND=GC "$2"',
      'sh',
      JSON.stringify(config),
      PLUGIN
    ])
    t.equal(exitCode, 0)
    t.equal((await endpoints(h1)).length, 2)
    for (const p of [live, kept]) await delPod(h1, p)
  })

  await t.test('a container that returns under its name replaces its stale endpoint', async t => {
    const first = await pod()
    const before = await addPod(h1, first)
    t.match(await callFor(h1, 'ADD', first), { exitCode: 1, json: { code: 106 } })
    await first.container.remove()
    const [again] = await lab.containers([first.container.name])
    if (again === undefined) throw new Error('no container')
    const after = await addPod(h1, { ...first, container: again })
    t.not(after.address, before.address, 'a released address is the last to be reused')
    await delPod(h1, { ...first, container: again })
  })

  await t.test('fifty pods that start and stop at once leave nothing', async t => {
    const names = Array.from({ length: 50 }, (_, n) => `many${n}`)
    const pods = (await lab.containers(names)).map(container => ({ container, namespace: 'shop' }))
    const added = await Promise.all(pods.map(p => addPod(h1, p)))
    t.equal(new Set(added.map(({ address }) => address)).size, 50)
    await Promise.all(pods.map(p => delPod(h1, p)))
    t.same(await endpoints(h1), [])
    await waitFor('nothing is left', () => isClean(h1))
    await Promise.all(pods.map(({ container }) => container.remove()))
  })

  await t.test('without a leader ADD and DEL fail with “try again later”, and a client’s STATUS fails', async t => {
    const p = await pod()
    const status = (): Promise<PluginRun> => callFor(h2, 'STATUS', p)
    await addPod(h2, p)
    t.match(await status(), { exitCode: 0 })
    await h1.killAgent()
    t.match(await callFor(h2, 'ADD', await pod()), { exitCode: 1, json: { code: 11 } })
    t.match(await callFor(h2, 'DEL', p), { exitCode: 1, json: { code: 11 } })
    const refusal = await waitFor('the client notices that there is no leader', async () => {
      const answer = await status()
      return answer.exitCode !== 0 && answer
    })
    t.match(refusal.json, { code: 50, msg: /no leader is known/ })
    await h1.startAgent()
    await h1.waitReady()
    t.ok(await waitFor('the client knows the leader again', async () => (await status()).exitCode === 0))
    await delPod(h2, p)
  })
})

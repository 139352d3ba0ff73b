// Every reloadable setting, changed on a running agent by `vxmesh reload` and by SIGHUP, under traffic.

import { readFileSync } from 'node:fs'
import t from 'tap'
import { bare } from '../lab/container.ts'
import { startFlow } from '../lab/flow.ts'
import type { LabHost } from '../lab/host.ts'
import type { Lab } from '../lab/lab.ts'
import { kill } from '../lab/kernel.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'
import { deviceIndexes, meshLab, nth } from './mesh-lab.ts'
import { cannotRun } from '../lab/requirements.ts'

t.setTimeout(TEST_TIMEOUT_MS)

type Settings = Readonly<Record<string, unknown>>

const WAYS: Readonly<Record<string, (host: LabHost) => Promise<void>>> = {
  'vxmesh reload': async host => {
    const { exitCode, stderr } = await host.cli('reload')
    if (exitCode !== 0) throw new Error(stderr)
  },
  SIGHUP: async host => kill(host.agentPid, 'SIGHUP')
}

async function answers(host: LabHost, listen: string): Promise<boolean> {
  const script = `fetch('http://${listen}/livez').then(async r => console.log(await r.text()), () => process.exit(1))`
  return (await host.exec(process.execPath, '-e', script)).stdout.trim() === 'ok'
}

function write(lab: Lab, host: LabHost, settings: Settings): Promise<void> {
  const {
    role = 'server',
    join = ['192.0.2.1'],
    ...more
  } = settings as {
    role?: 'server' | 'client'
    join?: readonly string[]
  }
  return host.configure({ clusterKeyFile: lab.keyFile, bootstrapExpect: 1, role, join, settings: more })
}

t.test('reloadable settings take effect on a running agent without a lost packet', { skip: cannotRun() }, async t => {
  const { lab, containers, endpoints } = await meshLab(t, { servers: 1, attached: 1 })
  const host = lab.host(1)
  const other = await lab.addClient()
  const [there] = await lab.containers(['there'])
  if (there === undefined) throw new Error('no container')
  await other.attach(there, 'red')
  const [here, address] = [nth(containers, 1), bare(nth(endpoints, 1).address)]
  const flow = await startFlow({ from: there, to: here, address, packetsPerSecond: 200 })
  const devices = await deviceIndexes(host)
  const { agentPid } = host
  const change = async (way: string, settings: Settings): Promise<void> => {
    await write(lab, host, settings)
    await WAYS[way]?.(host)
  }

  for (const [n, way] of Object.keys(WAYS).entries()) {
    const [first, second] = [`127.0.0.1:${7_400 + n}`, `192.0.2.1:${7_400 + n}`]
    await t.test(`http.listen follows ${way}`, async t => {
      await change(way, { http: { listen: first } })
      await waitFor('the new address answers', () => answers(host, first))
      t.ok(await waitFor('the previous address is closed', async () => !(await answers(host, '127.0.0.1:7380'))))
      await change(way, { http: { listen: second } })
      await waitFor('the next address answers', () => answers(host, second))
      t.ok(await waitFor('the previous address is closed', async () => !(await answers(host, first))))
    })

    await t.test(`an address that cannot be bound changes nothing, by ${way}`, async t => {
      const before = refusals(host)
      await write(lab, host, { http: { listen: '192.0.2.99:7380' }, overlay: { mtu: 1200 } })
      if (way === 'SIGHUP') kill(host.agentPid, 'SIGHUP')
      else {
        t.match(await host.cli('reload'), {
          exitCode: 2,
          stderr: /http.listen: 192.0.2.99:7380 cannot be bound: .*ERR_CONFIG/
        })
        kill(host.agentPid, 'SIGHUP')
      }
      await waitFor('the log has the refusal', () => refusals(host) > before)
      t.ok(await answers(host, second))
      t.equal((await host.status()).overlay.degraded.length, 0)
      t.equal((await here.link())?.mtu, 1450, 'the valid part of the file is not applied either')
    })

    await t.test(`overlay.mtu follows ${way} in running containers`, async () => {
      for (const mtu of [1_300, 1_450]) {
        await change(way, { http: { listen: second }, overlay: { mtu } })
        await waitFor(`the container follows to ${mtu}`, async () => (await here.link())?.mtu === mtu)
      }
    })

    await t.test(`log.level follows ${way}`, async t => {
      const lines = (): number => readFileSync(host.logFile, 'utf8').split('"configuration read again"').length
      const before = lines()
      await change(way, { http: { listen: first }, log: { level: 'error' } })
      await waitFor('the file is read', () => answers(host, first))
      t.equal(lines(), before, 'it does not log the reload')
      await change(way, { http: { listen: second }, log: { level: 'info' } })
      await waitFor('it logs the next reload', () => lines() > before)
    })

    await t.test(`collectAfter follows ${way}`, async t => {
      await change(way, { collectAfter: 0 })
      await waitFor('the file is read', () => answers(host, '127.0.0.1:7380'))
      const gone = await lab.container(`gone${n}`)
      await host.attach(gone, 'red')
      await gone.remove()
      t.equal((await host.status()).endpoints, 3)
      await change(way, { collectAfter: 1 })
      await waitFor('the stale endpoint is released', async () => (await host.status()).endpoints === 2, {
        timeoutMs: 20_000
      })
    })

    await t.test(`join follows ${way}`, async t => {
      const late = await lab.addHost({ role: 'client', join: [] })
      await late.startAgent()
      await waitFor('it runs alone', async () => (await late.status()).members.alive === 1)
      await write(lab, late, { role: 'client', join: [host.address] })
      await WAYS[way]?.(late)
      t.equal((await late.waitReady()).cluster, (await host.status()).cluster)
    })
  }

  const { sent, lost } = await flow.stop()
  t.comment(`${sent} packets sent`)
  t.ok(sent > 200)
  t.equal(lost, 0, `no packet of ${sent} is lost`)
  t.equal(host.agentPid, agentPid)
  t.notOk(host.agentIsGone)
  t.same(await deviceIndexes(host), devices, 'no device was recreated')
})

/** How many reloads the agent has refused. */
function refusals(host: LabHost): number {
  return readFileSync(host.logFile, 'utf8').split('configuration not read again').length
}

// `vxmesh cni` and `vxmesh namespace`, with temporary directories and a real state.

import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run } from '#platform/process.ts'
import { scratch } from '../api/scratch.ts'
import { buildPlugin, callPlugin, PLUGIN } from '../cni/plugin.ts'
import { served, vx } from './vx.ts'

await buildPlugin()

function places(t: Test): { bin: string; conf: string; flags: string[]; list: string } {
  const dir = scratch(t)
  const [bin, conf] = [join(dir, 'opt/bin'), join(dir, 'etc/net.d')]
  return { bin, conf, flags: ['--bin-dir', bin, '--conf-dir', conf], list: join(conf, '10-vxmesh.conflist') }
}

t.test('install writes a working plugin and a configuration that names it, and nothing else', async t => {
  const { bin, conf, flags, list } = places(t)
  const { code, out, err } = await vx(['cni', 'install', ...flags, '--socket', '/run/other.sock'])
  t.same([code, err], [0, ''])
  t.equal(out, [join(bin, 'vxmesh-cni'), join(bin, 'vxmesh'), list].map(file => `${file} installed\n`).join(''))
  t.same([readdirSync(bin).sort(), readdirSync(conf)], [['vxmesh', 'vxmesh-cni'], ['10-vxmesh.conflist']])
  t.equal(statSync(join(bin, 'vxmesh')).mode & 0o777, 0o755)
  t.equal(statSync(list).mode & 0o777, 0o644)
  const config = JSON.parse(readFileSync(list, 'utf8')) as { plugins: [{ type: string; socket: string }] }
  t.match(config, { cniVersion: '1.0.0', name: 'vxmesh', plugins: [{ type: 'vxmesh', socket: '/run/other.sock' }] })
  t.notOk(Object.hasOwn(config.plugins[0], 'network'), 'by namespace')
  const { exitCode } = await callPlugin('VERSION', { input: {}, program: join(bin, config.plugins[0].type) })
  t.equal(exitCode, 0)
})

t.test('install replaces both, even while the plugin runs, and accepts a network', async t => {
  const { bin, flags, list } = places(t)
  await vx(['cni', 'install', ...flags])
  const running = callPlugin('VERSION', { input: {}, program: join(bin, 'vxmesh') })
  const { code } = await vx(['cni', 'install', ...flags, '--network', 'red'])
  t.equal(code, 0)
  t.equal((await running).exitCode, 0)
  t.match(JSON.parse(readFileSync(list, 'utf8')), { plugins: [{ network: 'red', socket: '/run/vxmesh/agent.sock' }] })
  t.ok(readFileSync(join(bin, 'vxmesh')).equals(readFileSync(PLUGIN)))
})

t.test('uninstall removes what install wrote, once, and lists it', async t => {
  const { bin, conf, flags, list } = places(t)
  await vx(['cni', 'install', ...flags])
  writeFileSync(join(bin, 'bridge'), 'another plugin')
  writeFileSync(join(conf, '99-loopback.conf'), '{}')
  const { code, out } = await vx(['cni', 'uninstall', ...flags, '-o', 'json'])
  t.equal(code, 0)
  t.same(JSON.parse(out), { files: [list, join(bin, 'vxmesh-cni'), join(bin, 'vxmesh')] })
  t.same([readdirSync(bin), readdirSync(conf)], [['bridge'], ['99-loopback.conf']])
  t.same(await vx(['cni', 'uninstall', ...flags]), { code: 0, out: '', err: '' })
})

t.test('another program of that name is left alone, and nothing is changed', async t => {
  const { bin, conf, flags } = places(t)
  mkdirSync(bin, { recursive: true })
  writeFileSync(join(bin, 'vxmesh'), '#!/bin/sh\n')
  for (const verb of ['install', 'uninstall']) {
    const { code, err } = await vx(['cni', verb, ...flags])
    t.equal(code, 1)
    t.match(err, /vxmesh is another program and was left alone \[ERR_STORAGE\]/)
  }
  t.same(readdirSync(bin), ['vxmesh'])
  t.throws(() => readdirSync(conf), { code: 'ENOENT' })
})

t.test('an error names the directory that cannot be created', async t => {
  const { bin, flags } = places(t)
  writeFileSync(join(scratch(t), 'file'), '')
  await run('mkdir', ['-p', join(bin, '..')])
  writeFileSync(bin, 'a file where the directory should be')
  const { code, err } = await vx(['cni', 'install', ...flags])
  t.equal(code, 1)
  t.match(err, /opt\/bin.*\[ERR_STORAGE\]/)
})

t.test('namespaces are mapped, shown and unmapped', async t => {
  const { env } = await served(t)
  await vx(['network', 'create', 'green', '--subnet', '10.2.0.0/24'], { env })
  const mapped = await vx(['namespace', 'map', 'shop', 'red', '--grant', 'green', '--grant', 'red'], { env })
  t.same(mapped, { code: 0, out: 'NAMESPACE  NETWORK  GRANTS\nshop       red      green\n', err: '' })
  const { out } = await vx(['namespace', 'list', '-o', 'json'], { env })
  t.same(JSON.parse(out), [{ namespace: 'shop', network: 'red', grants: ['green'] }])
  t.match(await vx(['network', 'delete', 'red'], { env }), { code: 5, err: /namespace shop is mapped to network red/ })
  t.match(await vx(['namespace', 'unmap', 'shop'], { env }), { code: 0, out: 'namespace shop unmapped\n' })
  t.match(await vx(['namespace', 'list'], { env }), { code: 0, out: 'NAMESPACE  NETWORK  GRANTS\n' })
})

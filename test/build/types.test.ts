// The declarations in the package, as small projects with tsconfig.json see them.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { workerScript } from '../../bin/init/worker-script.mjs'
import { build } from '../../esbuild.config.mjs'

const tsc = resolve('node_modules/typescript/bin/tsc')
const projects = mkdtempSync(join(tmpdir(), 'tokenward-types-'))

beforeAll(async () => {
  await build({ quiet: true })
  mkdirSync(join(projects, 'node_modules'))
  symlinkSync(resolve('.'), join(projects, 'node_modules', 'tokenward'), 'junction')
})
afterAll(() => rmSync(projects, { recursive: true, force: true }))

/** What tsc says to a project of these files; empty if nothing. */
const compile = (files: Record<string, string>, compilerOptions: Record<string, unknown>) => {
  const project = mkdtempSync(join(projects, 'p'))
  for (const [name, text] of Object.entries(files)) writeFileSync(join(project, name), text)
  const options = {
    target: 'es2022',
    module: 'esnext',
    moduleResolution: 'bundler',
    types: [],
    strict: true,
    noEmit: true,
    ...compilerOptions,
  }
  writeFileSync(
    join(project, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: options, files: Object.keys(files) }),
  )
  const { stdout } = spawnSync(process.execPath, [tsc, '-p', project], { encoding: 'utf8' })
  return stdout
}

/** The lines that tsc complains about, by file. */
const linesOf = (said: string, file: string) =>
  [...said.matchAll(/(\w+\.[jt]s)\((\d+),\d+\): error (TS\d+)/g)].flatMap(([, name, line, code]) =>
    name === file ? [`${line} ${code}`] : [],
  )

const readme = readFileSync('README.md', 'utf8')
const [, quickStart = ''] = /```js worker\n([\s\S]*?)```/.exec(readme) ?? []
const [, workerLib = '[]'] = /`"lib": (\[[^`]*WebWorker[^`]*\])`/.exec(readme) ?? []

const bundled = `
  import { createTokenManager } from 'tokenward'
  import { createTokenWorker, dpop, jwks, staticRoutes } from 'tokenward/worker'
  import { tokenPlugin, tokenQueue } from 'tokenward/workbox'
  import { createTestTokenManager } from 'tokenward/testing'

  createTokenWorker({
    issuer: 'https://login.example.com',
    clientId: 'my-app',
    apis: ['/api/', { url: '/notes/', queue: tokenQueue('notes') }],
    dpop: dpop(),
    idTokenSignature: jwks(),
  }).listen({ claim: true, staticRoutes: staticRoutes() })
  tokenPlugin()
  void [createTokenManager, createTestTokenManager]`
const asInTheReadme = `
  import { createTokenWorker } from 'tokenward/worker'
  declare const self: ServiceWorkerGlobalScope & { __WB_MANIFEST: string[] }
  const worker = createTokenWorker({ issuer: 'https://a', clientId: 'a', apis: [] })
  self.addEventListener('fetch', (event) => void worker.handle(event))
  console.log(self.__WB_MANIFEST)`

/** Worker scripts without a bundler. */
const classic = {
  'quick.js': quickStart,
  'init.js': workerScript({}),
  'misspelt.js': `tokenward.createTokenWorker({ clientID: 'a' })`,
}

describe('a worker file', () => {
  test.each([
    ['of the page (DOM only)', ['es2022', 'dom']],
    ['with the lib that the README has for workers', JSON.parse(workerLib)],
  ])('stands in a project %s, checked to the last declaration', (_title, lib) => {
    const isPage = lib.includes('dom')
    const said = compile(
      {
        'bundled.ts': bundled,
        ...(isPage ? {} : { 'readme.ts': asInTheReadme }),
        'handle.ts': `
          import type { TokenWorker } from 'tokenward/worker'
          export const handle = (worker: TokenWorker, event: Event) => worker.handle(event)`,
        ...classic,
      },
      { lib, skipLibCheck: false, types: ['tokenward/classic'], allowJs: true, checkJs: true },
    )
    expect(linesOf(said, 'misspelt.js')).toEqual(['1 TS2561'])
    expect(said).toContain("Did you mean to write 'clientId'")
    // Workers have the event's own type, and pages have none.
    expect(linesOf(said, 'handle.ts')).toEqual(isPage ? [] : ['3 TS2345'])
    expect(said.match(/error TS/g)).toHaveLength(isPage ? 1 : 2)
  })

  test('stands beside the page with a reference at its top, and // @ts-check knows the global', () => {
    const said = compile(
      {
        'readme.ts': `/// <reference lib="webworker" />\n${asInTheReadme}`,
        'page.ts': `document.title = location.href\nexport {}`,
        'quick.js': `/// <reference types="tokenward/classic" />\n// @ts-check\n${quickStart}`,
      },
      { lib: ['ES2022', 'DOM'], skipLibCheck: true, allowJs: true },
    )
    expect(said).toBe('')
  })
})

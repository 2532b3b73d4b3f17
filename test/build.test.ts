import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runInNewContext } from 'node:vm'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { build } from '../esbuild.config.mjs'
import { measure } from './size.mjs'

// What is in dist/ and in the package, as a user gets it. Run by `npm test -- checks`.

const packageJson = JSON.parse(readFileSync('package.json', 'utf8'))
interface Locked {
  optionalDependencies?: Record<string, string>
}

const temporary = mkdtempSync(join(tmpdir(), 'tokenward-'))
let tarball: string
let packed: string[]

beforeAll(async () => {
  await build({ quiet: true })
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', temporary]
  const [{ filename, files }] = JSON.parse(
    execFileSync(npm, args, { encoding: 'utf8', shell: process.platform === 'win32' }),
  )
  tarball = join(temporary, filename)
  packed = files.map(({ path }: { path: string }) => path)
})

afterAll(() => rmSync(temporary, { recursive: true, force: true }))

describe('the package', () => {
  test('is clean for publint', async () => {
    const { messages, pkg } = await publint({ strict: true })
    expect(messages.map((message) => formatMessage(message, pkg!))).toEqual([])
  })

  test('has types that resolve for everybody who can import ES modules (attw)', () => {
    const attw = join('node_modules', '@arethetypeswrong', 'cli', 'dist', 'index.js')
    const args = [attw, tarball, '--profile', 'esm-only', '--no-color', '--no-emoji']
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    expect(status, stdout + stderr).toBe(0)
  })

  test('contains every file that its package.json names', () => {
    const named = Object.values<string | Record<string, string>>(packageJson.exports)
      .flatMap((target) => (typeof target === 'string' ? [target] : Object.values(target)))
      .concat(Object.values<string>(packageJson.bin))
      .map((file) => file.replace(/^\.\//, ''))
    expect(named.filter((file) => !packed.includes(file))).toEqual([])
  })

  test('contains licences, and no sources, tests or build notes', () => {
    expect(packed).toContain('LICENSE')
    expect(packed).toContain('dist/THIRD-PARTY-LICENSES.txt')
    expect(packed.filter((file) => /^(?:src|sw|test|demo)\/|tsbuildinfo/.test(file))).toEqual([])
  })

  test('can be imported on a server', () => {
    const code = `
      for (const entry of ['tokenward', 'tokenward/testing', 'tokenward/standalone']) {
        const { createTokenManager, createTestTokenManager } = await import(entry)
        if (!(createTokenManager ?? createTestTokenManager)) throw new Error(entry)
      }`
    const args = ['--input-type=module', '--eval', code]
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    expect(status, stderr).toBe(0)
  })
})

describe('the lock file', () => {
  const text = readFileSync('package-lock.json', 'utf8')
  const { packages } = JSON.parse(text) as { packages: Record<string, Locked> }

  test('is not tied to a registry', () => {
    expect(text).not.toContain('"resolved"')
  })

  // A registry that lacks the build of one system leaves it out silently, and `npm ci` then fails
  // on every system.
  test('has the builds of every system', () => {
    const locked = new Set(Object.keys(packages).map((path) => path.split('node_modules/').at(-1)))
    const missing = Object.values(packages)
      .flatMap(({ optionalDependencies = {} }) => Object.keys(optionalDependencies))
      .filter((name) => !locked.has(name))
    expect(missing).toEqual([])
  })
})

describe.each(['dist/worker.js', 'dist/worker.classic.js'])('the worker bundle %s', (file) => {
  const text = () => readFileSync(file, 'utf8')

  test('runs under a strict policy: no eval, no dynamic import (CF-06)', () => {
    expect(text()).not.toMatch(/\beval\s*\(|\bnew Function\b|\bimport\s*\(/)
  })

  test('starts at once: no top-level await, which a service worker refuses', () => {
    // The grammar of a classic script has none.
    const script = text()
      .replaceAll(/^import\b[^;]*;$/gm, '')
      .replaceAll(/^export\s*\{[^}]*\};?$/gm, '')
    expect(() => new Function(script)).not.toThrow()
  })
})

describe('the classic worker bundle', () => {
  test('is one script that leaves one global, tokenward.createTokenWorker', () => {
    const scope: Record<string, unknown> = { URL, TextEncoder, TextDecoder }
    scope.self = scope
    const before = Object.keys(scope)
    runInNewContext(readFileSync('dist/worker.classic.js', 'utf8'), scope)
    expect(Object.keys(scope).filter((name) => !before.includes(name))).toEqual(['tokenward'])
    expect(scope.tokenward).toHaveProperty('createTokenWorker', expect.any(Function))
  })

  test('says its name, version and licence in the first line', () => {
    const [banner] = readFileSync('dist/worker.classic.js', 'utf8').split('\n')
    expect(banner).toContain(`tokenward ${packageJson.version} | MIT`)
  })
})

describe('the page bundle', () => {
  test('knows no word for what a page never handles', () => {
    const files = readdirSync('dist').filter((file) => /^(?:index|page).*\.js$/.test(file))
    expect(files).toContain('index.js')
    expect(files).toContain('page.standalone.js')
    for (const file of files) {
      const text = readFileSync(join('dist', file), 'utf8')
      expect(text, file).not.toMatch(/\b(?:access_token|refresh_token|id_token|code_verifier)\b/)
    }
  })
})

describe('the sizes', () => {
  test('keep to the budgets that the README promises (CF-11)', async () => {
    const budgeted = (await measure()).filter(({ budget }) => budget !== undefined)
    expect(budgeted).toHaveLength(3)
    for (const { title, budget, kb } of budgeted) {
      expect(kb, `${title}, kB gzip (npm run size)`).toBeLessThanOrEqual(budget!)
    }
  })
})

describe('the pages that the network serves', () => {
  const names = ['login', 'silent', 'callback', 'done', 'logout']
  const pages = names.map((name) => readFileSync(`public/tokenward/${name}.html`, 'utf8'))

  test('are one page under five names', () => {
    expect(new Set(pages).size).toBe(1)
    expect(readdirSync('public/tokenward').sort()).toEqual(names.map((n) => `${n}.html`).sort())
  })

  test('are inert: no script, no handler, no relay, nothing loaded or sent (CB-13)', () => {
    const [page] = pages
    const tags = [...page!.matchAll(/<([a-z]+)/gi)].map(([, tag]) => tag!.toLowerCase())
    const harmless = ['html', 'meta', 'title', 'style', 'p', 'a']
    expect(tags.filter((tag) => !harmless.includes(tag))).toEqual([])
    expect(page).not.toMatch(/postMessage|BroadcastChannel|localStorage/)
    expect(page).not.toMatch(/\son\w+\s*=|javascript:|http-equiv="refresh"|url\(|@import|\bsrc=/i)
    expect([...page!.matchAll(/href="([^"]*)"/g)].map(([, href]) => href)).toEqual(['../'])
    expect(page).toContain(`content="default-src 'none'`)
  })

  test('tell nobody where they were: no referrer, no index', () => {
    expect(pages[0]).toContain('<meta name="referrer" content="no-referrer">')
    expect(pages[0]).toContain('<meta name="robots" content="noindex">')
  })
})

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runInNewContext } from 'node:vm'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import ts from 'typescript'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { build } from '../../esbuild.config.mjs'
import type { TokenError } from '../../src/shared/errors.js'
import { measure } from '../size.mjs'

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

  test.each([[[]], [['--conditions=development']]])(
    'can be imported on a server (%j)',
    (conditions) => {
      const code = `
      for (const entry of ['tokenward', 'tokenward/testing', 'tokenward/standalone']) {
        const { createTokenManager, createTestTokenManager } = await import(entry)
        if (!(createTokenManager ?? createTestTokenManager)) throw new Error(entry)
      }`
      const args = [...conditions, '--input-type=module', '--eval', code]
      const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
      expect(status, stderr).toBe(0)
    },
  )
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

describe.each([
  'dist/worker.js',
  'dist/worker.classic.js',
  'dist/development/worker.js',
  'dist/development/worker.classic.js',
])('the worker bundle %s', (file) => {
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

describe.each([
  ['dist/worker.classic.js', ''],
  ['dist/development/worker.classic.js', ' development'],
])('the classic worker bundle %s', (file, kind) => {
  test('is one script that leaves one global, tokenward.createTokenWorker', () => {
    const scope: Record<string, unknown> = { URL, TextEncoder, TextDecoder }
    scope.self = scope
    const before = Object.keys(scope)
    runInNewContext(readFileSync(file, 'utf8'), scope)
    expect(Object.keys(scope).filter((name) => !before.includes(name))).toEqual(['tokenward'])
    expect(scope.tokenward).toHaveProperty('createTokenWorker', expect.any(Function))
  })

  test('says its name, version, build and licence in the first line', () => {
    const [banner] = readFileSync(file, 'utf8').split('\n')
    expect(banner).toContain(`tokenward ${packageJson.version}${kind} | MIT`)
  })
})

describe('the two builds', () => {
  /** What a worker with these options says in its console; empty if nothing. */
  const refusal = (file: string, options: Record<string, unknown>): string => {
    const errors: TokenError[] = []
    const scope: Record<string, unknown> = {
      URL,
      TextEncoder,
      TextDecoder,
      BroadcastChannel: class {},
      console: { error: (error: TokenError) => errors.push(error) },
      registration: { scope: 'https://app.example.com/' },
    }
    scope['self'] = scope
    const all = {
      issuer: 'https://login.example.com',
      clientId: 'app',
      apis: ['https://api.example.com/'],
      ...options,
    }
    const call = `tokenward.createTokenWorker(${JSON.stringify(all)})`
    runInNewContext(`${readFileSync(file, 'utf8')}\n${call}`, scope)
    for (const { name, code } of errors) {
      expect([name, code]).toEqual(['TokenError', 'invalid_configuration'])
    }
    return errors.map(({ message }) => message).join('\n')
  }
  const inDevelopment = (options: Record<string, unknown>) =>
    refusal('dist/development/worker.classic.js', options)
  const inProduction = (options: Record<string, unknown>) =>
    refusal('dist/worker.classic.js', options)

  /** What the sources have in quotes, where it is several words. */
  const wordsIn = (file: string): string[] => {
    const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.ES2022)
    const found: string[] = []
    const visit = (node: ts.Node) => {
      const isText = ts.isStringLiteralLike(node) || ts.isTemplateHead(node)
      if (isText || ts.isTemplateMiddleOrTemplateTail(node)) found.push(node.text.trim())
      ts.forEachChild(node, visit)
    }
    visit(source)
    return found.filter((text) => text.split(' ').length >= 3)
  }
  const words = ['src', 'sw'].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .flatMap((file) => wordsIn(join(folder, file))),
  )
  const comment = /^\s*(?:\/\/|\/?\*).*$/gm
  /** Ends of sentences, which is where messages say what to do. */
  const sentencesIn = (text: string) =>
    words.filter((each) => /[.)]$/.test(each) && text.includes(each))

  test.each<[string, Record<string, unknown>, string]>([
    ['issuer', { issuer: 'http://login.example.com' }, 'must use https'],
    ['clientId', { clientId: undefined }, 'must be a string'],
    ['http://api.example.com/', { apis: ['http://api.example.com/'] }, 'must use https'],
    ['silentLoginTimeout', { silentLoginTimeout: 30 }, 'from 1 to 20'],
    ['storage', { storage: 'localStorage' }, "must be 'indexeddb' or 'memory'"],
    ['state', { authorizationParams: { state: 'x' } }, 'has an option for it'],
  ])('refuse a wrong option and name it, with and without words: %s', (name, options, remedy) => {
    const development = inDevelopment(options)
    expect(development).toContain(name)
    expect(development).toContain(remedy)

    const production = inProduction(options)
    expect(production).toContain(name)
    expect(production).toMatch(
      /^invalid_configuration: .+ \(tokenward\/docs\/errors\.md#invalid_configuration\)$/,
    )
    expect(production).not.toContain(remedy)
    expect(sentencesIn(production)).toEqual([])
  })

  test('differ where a wrong option does no harm: only development explains it', () => {
    expect(inDevelopment({ client_id: 'app' })).toContain('Use clientId.')
    expect(inProduction({ client_id: 'app' })).toBe('')
  })

  test('have nothing to say about options that are right', () => {
    expect([inDevelopment({}), inProduction({})]).toEqual(['', ''])
  })

  // What is left are causes of errors that have a code.
  test.each([
    ['index.js', []],
    [
      'worker.js',
      [
        'Another connection blocks the database.',
        'The DPoP key is gone.',
        'The page failed.',
        'The visit took too long.',
      ],
    ],
  ])('have the sentences of %s in development alone', (file, left) => {
    const [production, development] = ['dist', 'dist/development'].map((folder) => {
      const withoutComments = readFileSync(join(folder, file), 'utf8').replaceAll(comment, '')
      return [...new Set(sentencesIn(withoutComments))].sort()
    })
    expect(production).toEqual(left)
    expect(development!.length).toBeGreaterThan(left.length + 10)
  })
})

describe('the page bundle', () => {
  test('knows no word for what a page never handles', () => {
    const isPages = (file: string) => /^(?:index|page).*\.js$/.test(file)
    const filesIn = (folder: string) => readdirSync(folder).filter(isPages)
    expect(filesIn('dist')).toEqual(expect.arrayContaining(['index.js', 'page.standalone.js']))
    expect(filesIn('dist/development')).toEqual(filesIn('dist'))
    const folders = ['dist', 'dist/development']
    for (const file of folders.flatMap((each) => filesIn(each).map((name) => join(each, name)))) {
      const text = readFileSync(file, 'utf8')
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

import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { collectScripts, isModule, readOptions } from '../../bin/doctor/worker-script.mjs'

const site = 'https://app.example.com'
const collect = (files: Record<string, string>, origin = site) => {
  const answerFor = (url: string) => {
    const text = files[new URL(url).pathname]
    return text === undefined
      ? { url, problem: 'nothing there' }
      : { url, status: 200, headers: new Headers(), text }
  }
  const ask = async (url: string | URL) => answerFor(String(url))
  return collectScripts({ ask }, answerFor(`${origin}/sw.js`) as never)
}
const read = async (files: Record<string, string>) => readOptions(await collect(files))

describe('the options of a worker, read in its source', () => {
  test('as in the quick start', async () => {
    const options = await read({
      '/sw.js': `importScripts('tokenward-worker.js')
        tokenward.createTokenWorker({
          issuer: 'https://login.example.com',
          // issuer: 'https://old.example.com',
          clientId: 'my-app',
          apis: ['https://api.example.com/', '/api/', { url: "https://x.example/", scope: 'a b' }],
          authPath: 'auth/oidc/',
        }).listen({ claim: true })`,
      '/tokenward-worker.js': '/*! tokenward 1.0.0 | MIT */ let x={issuer:"https://wrong"}',
    })
    expect(options).toEqual({
      issuer: { value: 'https://login.example.com', from: `${site}/sw.js` },
      clientId: { value: 'my-app', from: `${site}/sw.js` },
      apis: {
        urls: ['https://api.example.com/', '/api/', 'https://x.example/'],
        isWhole: true,
      },
      authPath: { value: 'auth/oidc/', from: `${site}/sw.js` },
      redirectUri: undefined,
    })
  })

  test('in a minified bundle, and in metadata given as an object', async () => {
    const options = await read({
      '/sw.js': `var a={clientId:"other"};Z({issuer:{issuer:"https://login.example.com/",token_endpoint:"https://x/t"},clientId:"my-app",apis:[{"url":"https://api.example.com/","unauthenticated":"fail"}]})`,
    })
    expect(options.issuer?.value).toBe('https://login.example.com/')
    expect(options.apis).toEqual({ urls: ['https://api.example.com/'], isWhole: true })
  })

  test('from a file that differs by deployment', async () => {
    const options = await read({
      '/sw.js': `importScripts("/env.js", '/lib.js')
        createTokenWorker({ issuer: env.issuer, clientId: env.clientId, apis: [env.api, '/api/'] })`,
      '/env.js':
        'self.env = {"issuer": "https://login.example.com", "clientId": "x", "api": "https://a/"}',
    })
    expect(options.issuer).toEqual({ value: 'https://login.example.com', from: `${site}/env.js` })
    expect(options.clientId?.value).toBe('x')
    expect(options.apis).toEqual({ urls: ['/api/'], isWhole: false })
  })

  test.each([
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the source of a worker.
    'createTokenWorker({ issuer: `https://${host}/`, clientId: `${x}`, apis: [`${api}/x`] })',
    "createTokenWorker({ issuer: 'not a url', redirectUri: 'https://[' })",
    "issuer: '",
    'apis: [[[[',
    '',
  ])('not where they do not stand there: %j', async (text) => {
    const { issuer, clientId, redirectUri, apis } = await read({ '/sw.js': text })
    expect({ issuer, clientId, redirectUri }).toEqual({})
    expect(apis?.urls ?? []).toEqual([])
  })
})

describe('the scripts of a worker', () => {
  const urls = async (files: Record<string, string>) =>
    (await collect(files)).map(({ url }) => url.replace(site, ''))

  test('are those that it imports, and what those import', async () => {
    const files = {
      '/sw.js': "importScripts('/a.js',`b.js`)\n// importScripts('/old.js')\nimportScripts(x)",
      '/a.js': "importScripts('/c.js')",
      '/c.js': "importScripts('/sw.js', '/a.js')",
    }
    expect(await urls(files)).toEqual(['/sw.js', '/a.js', '/b.js', '/c.js'])
  })

  test('are modules too', async () => {
    const files = {
      '/sw.js': "import { x } from '../lib/x.js'\nimport '/y.js'\nimport z from 'bare'",
      '/lib/x.js': "export * from '../../z.js'",
    }
    expect(await urls(files)).toEqual(['/sw.js', '/lib/x.js', '/y.js', '/z.js'])
  })

  test.each([
    ['https://app.example.com', '/tokenward-worker.js'],
    ['https://localhost.example.com', '/tokenward-worker.js'],
    ['http://localhost:5173', '/tokenward-worker.development.js'],
    ['http://127.0.0.1:5173', '/tokenward-worker.development.js'],
  ])('are, of the two builds in the quick start, the one for %s', async (origin, expected) => {
    const readme = readFileSync('README.md', 'utf8')
    const [quickStart = ''] = /importScripts\([\s\S]+?\n\)/.exec(readme) ?? []
    for (const source of [quickStart, quickStart.replaceAll(/\/\/.*|\s/g, '')]) {
      const [, ...imported] = await collect({ '/sw.js': source }, origin)
      expect(imported.map(({ url }) => url.replace(origin, ''))).toEqual([expected])
    }
  })

  test('are both builds, where a worker imports both', async () => {
    const source = "importScripts('/x.js', '/x.development.js')"
    expect(await urls({ '/sw.js': source })).toEqual(['/sw.js', '/x.js', '/x.development.js'])
  })

  test('do not go on for ever', async () => {
    const files = Object.fromEntries(
      Array.from({ length: 30 }, (_, n) => [`/${n}.js`, `importScripts('/${n + 1}.js')`]),
    )
    expect((await urls({ ...files, '/sw.js': "importScripts('/0.js')" })).length).toBe(12)
  })

  test.each([
    ["import { a } from '../a.js'", true],
    ["import'./a.js'", true],
    ['var a;\nexport{a}', true],
    ["importScripts('/a.js')", false],
    ['const exported = 1', false],
    ["import('../a.js')", false],
  ])('%j is a module: %s', (text, expected) => {
    expect(isModule(text)).toBe(expected)
  })
})

// The list and the one note that is open: `#new`, or `#` and its id.

const $ = (id) => document.getElementById(id)

const time = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })

const markOf = ({ state, deleted, status }) => {
  if (state === 'refused') return `not accepted (${status})`
  if (state !== 'new' && state !== 'queued') return ''
  return deleted ? 'deletion not sent yet' : 'not sent yet'
}

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties)
  made.append(...children)
  return made
}

const rowOf = (note) => {
  const [first, ...rest] = note.text?.split('\n') ?? ['A note']
  const parts = [
    element('span', { className: 'name' }, first || 'No text'),
    element('small', { className: 'mark' }, markOf(note)),
    element('span', { className: 'rest' }, `${time.format(note.at)} ${rest.join(' ')}`),
  ]
  const row = note.deleted
    ? element('div', { className: 'deleted' }, ...parts)
    : element('a', { href: `#${note.id}` }, ...parts)
  const item = element('li', {}, row)
  item.dataset.state = note.state ?? ''
  return item
}

/**
 * @param actions `create(text)`, `change(id, text)`, `delete(id)`
 * @param explain Says why something could not be kept on this device
 */
export const createView = ({ create, change, delete: remove }, explain) => {
  let notes = []
  let drawn = ''
  let user = ''
  let opened

  const openId = () => location.hash.slice(1)
  const openNote = () => notes.find(({ id, deleted }) => id === openId() && !deleted)

  // What is being written outlives a reload and a crash, too. Synchronous, so it is never late.
  const draftKey = (id = openId()) => `field-notes draft ${user} ${id}`
  const draftKeys = () => Object.keys(localStorage).filter((key) => key.startsWith(draftKey('')))

  const drawList = () => {
    const next = JSON.stringify([openId(), notes])
    if (next === drawn) return
    drawn = next
    const { activeElement } = document
    const focused = activeElement?.closest('#notes a')?.hash
    $('notes').replaceChildren(...notes.map(rowOf))
    for (const link of $('notes').querySelectorAll('a')) {
      if (link.hash === location.hash) link.setAttribute('aria-current', 'true')
      if (link.hash === focused) link.focus()
    }
  }

  const drawEditor = () => {
    const id = openId()
    const isShown = id === 'new' || openNote() !== undefined
    $('editor').hidden = !isShown
    $('no-note').hidden = isShown
    $('app').classList.toggle('open', isShown)
    $('delete').hidden = id === 'new'
    const draft = localStorage.getItem(draftKey())
    $('draft').hidden = draft === null
    const text = draft ?? openNote()?.text ?? ''
    // Setting it moves the cursor.
    if ($('text').value !== text) $('text').value = text
    const shown = isShown ? id : ''
    if (shown === opened) return
    if (isShown) $('text').focus()
    else if (opened) ($('notes').querySelector(`[href="#${opened}"]`) ?? $('new')).focus()
    opened = shown
  }

  const draw = () => {
    drawList()
    drawEditor()
  }

  addEventListener('hashchange', draw)

  $('text').addEventListener('input', () => {
    const text = $('text').value
    if (text === (openNote()?.text ?? '')) localStorage.removeItem(draftKey())
    else localStorage.setItem(draftKey(), text)
    $('draft').hidden = localStorage.getItem(draftKey()) === null
  })

  /** An action on the open note. Only when it is on the disk, the draft goes. */
  const finish = async (action) => {
    const [id, draft] = [openId(), draftKey()]
    $('editor').inert = true
    try {
      await action
      localStorage.removeItem(draft)
      // The user may have opened another note meanwhile.
      if (openId() === id) location.hash = ''
    } catch (error) {
      explain(error)
    } finally {
      $('editor').inert = false
    }
  }

  $('editor').addEventListener('submit', (event) => {
    event.preventDefault()
    const text = $('text').value
    finish(openId() === 'new' ? create(text) : change(openId(), text))
  })

  $('delete').addEventListener('click', () => finish(remove(openId())))

  return {
    show(next) {
      notes = next
      draw()
    },
    setUser(next = '') {
      user = next
      draw()
    },
    drafts: () => draftKeys().length,
    forgetDrafts() {
      for (const key of draftKeys()) localStorage.removeItem(key)
    },
  }
}

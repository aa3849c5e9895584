// The page's questions: modal dialogs.
import {h} from './dom.js';

// Shows a modal dialog and resolves to the value of the form's closing button, or '' when dismissed.
// The browser keeps the focus inside and returns it afterwards.
function ask(title, body, {yes, no = 'Cancel', danger = false, onopen} = {}) {
  return new Promise((resolve) => {
    const dialog = h(
      'dialog',
      {class: 'dialog', 'aria-label': title},
      h(
        'form',
        {method: 'dialog'},
        h('h2', {}, title),
        ...[body].flat(),
        h(
          'div',
          {class: 'buttons'},
          h(
            'button',
            {
              class: 'quiet',
              value: '',
              formnovalidate: true,
              type: 'button',
              onclick: () => dialog.close(''),
            },
            no,
          ),
          h('button', {class: danger ? 'danger' : 'primary', value: 'yes', type: 'submit'}, yes),
        ),
      ),
    );
    dialog.addEventListener(
      'close',
      () => {
        dialog.remove();
        resolve(dialog.returnValue);
      },
      {once: true},
    );
    dialog.addEventListener('cancel', () => {
      dialog.returnValue = '';
    });
    dialog.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey))
        dialog.querySelector('form').requestSubmit(dialog.querySelector('[value=yes]'));
    });
    dialog.addEventListener('click', (event) => {
      if (event.target === dialog) dialog.close('');
    });
    document.body.append(dialog);
    dialog.showModal();
    onopen?.(dialog);
  });
}

export const askToDelete = (prompt) =>
  ask('Delete this video?', h('p', {}, prompt), {yes: 'Delete', no: 'Keep', danger: true});

// Resolves to the changed prompt, or to '' if there is none.
export async function askForPrompt(prompt) {
  const field = h('textarea', {rows: 4, required: true, 'aria-label': 'Changed prompt'});
  field.value = prompt;
  const hint = h('p', {class: 'hint'}, 'The same settings and seed with a changed prompt.');
  const answer = await ask('Remix', [hint, field], {
    yes: 'Make',
    onopen: () => {
      field.focus();
      field.select();
    },
  });
  return answer ? field.value.trim() : '';
}

// Resolves to {key, remember}, or to null if none was given. `message` says what was wrong before.
export async function askForKey(message) {
  const field = h('input', {
    type: 'password',
    id: 'key',
    autocomplete: 'current-password',
    required: true,
    'aria-label': 'API key',
    'aria-invalid': String(message !== ''),
  });
  const remember = h('input', {type: 'checkbox', id: 'remember'});
  const body = [
    h('p', {class: 'hint'}, 'This server answers only to those who have a key.'),
    field,
    message ? h('p', {class: 'error', role: 'alert'}, message) : null,
    h(
      'label',
      {class: 'switch'},
      remember,
      h('span', {}, h('b', {}, 'Remember it on this device')),
    ),
  ];
  const answer = await ask('API key', body.filter(Boolean), {
    yes: 'Continue',
    onopen: () => field.focus(),
  });
  return answer && field.value ? {key: field.value.trim(), remember: remember.checked} : null;
}

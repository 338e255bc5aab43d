-- The two assistants that are there from the start. The demo's prompts are those of the scripted model.
insert into public.assistants (id, user_id, name, description, instructions, model, ice_breakers) values
(
    '00000000-0000-4000-8000-000000000001', null, 'Assistant',
    'Plans, writes Python, runs it isolated, and proves its answer. Uses the model that the worker is configured with.',
    '', null,
    '[{"title": "Look into a file", "prompt": "Describe the file I uploaded: its columns, its gaps, and what stands out.", "files": ["penguins.csv"]},
      {"title": "Compare groups", "prompt": "How does body mass differ between the species, and is the difference larger than the spread within each? Plot it.", "files": ["penguins.csv"]}]'
),
(
    '00000000-0000-4000-8000-000000000002', null, 'Scripted demo',
    'Scripted demo, no AI: four fixed tasks whose code really runs in the sandbox.',
    '', 'scripted-demo',
    '[{"title": "Plot with trend lines", "prompt": "Plot flipper length against body mass by species, with a trend line for each", "files": ["penguins.csv"]},
      {"title": "Table of means", "prompt": "Make a table of the mean body mass by species and sex, and save it as CSV", "files": ["penguins.csv"]},
      {"title": "Describe an upload", "prompt": "Describe the file I uploaded: columns, missing values, and anything odd", "files": ["penguins.csv"]},
      {"title": "A question with figures", "prompt": "Which penguins are unusually heavy for their species, and by how much?", "files": ["penguins.csv"]}]'
);
